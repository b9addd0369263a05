"""The mirror between a Kubernetes cluster and control: custom resources here, resources there."""
