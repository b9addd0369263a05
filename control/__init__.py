"""The API, the command line and the process that holds the control plane together."""
