"""What people see in a terminal, and the manifests that they write: for commands and for the demo."""
