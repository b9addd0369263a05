{{/* Ray nodes. */}}

{{- define "computility.policyVersion" -}}
{{- if or (.Capabilities.APIVersions.Has "policy/v1/PodDisruptionBudget") (semverCompare ">=1.21-0" .Capabilities.KubeVersion.Version) }}policy/v1{{ else }}policy/v1beta1{{ end }}
{{- end }}

{{/* The command of a Ray node that joins (list . <address>), as items of a list. */}}
{{- define "computility.rayCommand" -}}
- ray
- start
- --address={{ index . 1 }}
- --block
- --node-ip-address=$(POD_IP)
- --min-worker-port=0
- --max-worker-port=0
- --dashboard-agent-listen-port=0
- --include-log-monitor=false
- --object-store-memory={{ int64 (index . 0).Values.ray.objectStoreBytes }}
- --disable-usage-stats
- --log-style=record
{{- end }}

{{/* Whoever has a Ray node: control, head and pools, as peers of a policy. */}}
{{- define "computility.rayPeers" -}}
{{- range list "control" "ray-head" }}
- podSelector:
    matchLabels:
      {{- include "computility.selector" (list $ .) | nindent 6 }}
{{- end }}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: {{ include "computility.name" . }}
      app.kubernetes.io/instance: {{ .Release.Name }}
      computility.io/ray-node: worker
{{- end }}
