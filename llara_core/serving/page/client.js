// Asks the service, and turns whatever goes wrong into words and into what can be done about it.

const KEY = "llara-key";

export class Trouble extends Error {
  // again: seconds after which to ask again by itself; null: only when the reader says so.
  constructor(message, { key = false, again = null } = {}) {
    super(message);
    this.key = key;
    this.again = again;
  }
}

export function keepKey(value) {
  sessionStorage.setItem(KEY, value);
}

export async function ask(path, { body = null, signal = null } = {}) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  // Header values are bytes; a key with other letters cannot be right, and fetch would throw.
  if (key && /^[\x21-\x7e]+$/.test(key)) headers["X-API-Key"] = key;
  const options = { headers, signal };
  if (body !== null) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The service cannot be reached. Is it running, and are you online?");
  }
  if (response.ok) return response.json();
  throw await explain(response);
}

async function explain(response) {
  let reason = "";
  try {
    reason = (await response.json()).error.message;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    reason = `answer ${response.status}`; // a proxy's page, say
  }
  const later = Number(response.headers.get("Retry-After")) || null;
  if (response.status === 401) return new Trouble("This service asks for a key.", { key: true });
  if (response.status === 429) return new Trouble(`The service is busy: ${reason}.`, { again: later });
  if (response.status === 503) return new Trouble(`The service is not ready: ${reason}.`, { again: later });
  if (response.status >= 500) return new Trouble(`The service failed: ${reason}.`);
  return new Trouble(`The service refused: ${reason}.`);
}
