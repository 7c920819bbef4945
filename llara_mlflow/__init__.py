"""What knows MLflow and no ZenML: the way from a registered model to its bundle on this machine."""
