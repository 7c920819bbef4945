"""Text to vector: templates, backbone, retriever and bundle."""
