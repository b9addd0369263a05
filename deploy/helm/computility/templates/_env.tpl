{{/* Environment variables of containers. */}}

{{- define "computility.env.pod" -}}
- name: POD_IP
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: HOME
  value: /tmp
- name: PYTHONUNBUFFERED
  value: "1"
{{- end }}

{{/* One variable from a Secret: (list <variable> <secret> <key>). */}}
{{- define "computility.env.secret" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
{{- end }}

{{/* What gateway and control share. */}}
{{- define "computility.env.tokens" -}}
{{- $secret := include "computility.instanceSecret" . -}}
{{ include "computility.env.secret" (list "COMPUTILITY_INSTANCE" $secret "instance") }}
{{ include "computility.env.secret" (list "COMPUTILITY_INTERNAL_TOKEN" $secret "internal-token") }}
{{ include "computility.env.secret" (list "COMPUTILITY_METRICS_TOKEN" $secret "metrics-token") }}
{{- end }}

{{/* What every process of Ray, and every driver, has to know. */}}
{{- define "computility.env.ray" -}}
{{- if or (ne .Values.ray.mode "external") .Values.ray.external.tokenAuth }}
- name: RAY_AUTH_MODE
  value: token
{{ include "computility.env.secret" (list "RAY_AUTH_TOKEN" (include "computility.instanceSecret" .) "ray-token") }}
{{- end }}
# Nobody waits for agents, which never go by themselves.
- name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S
  value: "0"
- name: RAY_USAGE_STATS_ENABLED
  value: "0"
- name: RAY_task_events_report_interval_ms
  value: "0"
- name: RAY_enable_metrics_collection
  value: "false"
- name: AUTOSCALER_METRIC_PORT
  value: "-1"
- name: DASHBOARD_METRIC_PORT
  value: "-1"
- name: RAY_worker_niceness
  value: "0"
- name: RAY_ROTATION_MAX_BYTES
  value: "16777216"
- name: RAY_ROTATION_BACKUP_COUNT
  value: "1"
{{- with .Values.ray.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Where a model's and compilers' files go, on the shared volume or in scratch space. */}}
{{- define "computility.env.caches" -}}
- name: COMPUTILITY_HOME
  value: {{ include "computility.home" . }}
- name: HF_HOME
  value: {{ .Values.home.mountPath }}/cache/huggingface
- name: XDG_CACHE_HOME
  value: /tmp/cache
- name: VLLM_CACHE_ROOT
  value: /tmp/cache/vllm
- name: TRITON_CACHE_DIR
  value: /tmp/cache/triton
- name: TORCHINDUCTOR_CACHE_DIR
  value: /tmp/cache/inductor
{{- end }}

{{/* Where a client of control finds it. */}}
{{- define "computility.env.client" -}}
- name: COMPUTILITY_CONTROL__URLS
  value: {{ list (include "computility.controlUrl" .) | toJson | quote }}
{{- if .Values.tls.caSecretName }}
- name: COMPUTILITY_TLS_CA_FILE
  value: /etc/computility/ca/ca.crt
{{- end }}
{{- end }}

{{/* A server's address and TLS: (list . "GATEWAY" <tls values>). */}}
{{- define "computility.env.server" -}}
{{- $name := index . 1 -}}
- name: COMPUTILITY_{{ $name }}__HOST
  value: $(POD_IP)
{{- if (index . 0).Values.listenOnLoopback }}
- name: COMPUTILITY_{{ $name }}__LOOPBACK_TOO
  value: "true"
{{- end }}
{{- if (index . 2).secretName }}
- name: COMPUTILITY_{{ $name }}__TLS_CERTIFICATE_FILE
  value: /etc/computility/tls/tls.crt
- name: COMPUTILITY_{{ $name }}__TLS_KEY_FILE
  value: /etc/computility/tls/tls.key
{{- else }}
- name: COMPUTILITY_{{ $name }}__ALLOW_CLEAR_TEXT
  value: "true"
{{- end }}
{{- end }}

{{- define "computility.env.extra" -}}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Mounts of certificates: (list . <tls values>). */}}
{{- define "computility.tls.mounts" -}}
{{- if (index . 1).secretName }}
- name: tls
  mountPath: /etc/computility/tls
  readOnly: true
{{- end }}
{{- if (index . 0).Values.tls.caSecretName }}
- name: ca
  mountPath: /etc/computility/ca
  readOnly: true
{{- end }}
{{- end }}

{{- define "computility.tls.volumes" -}}
{{- with (index . 1).secretName }}
- name: tls
  secret:
    secretName: {{ . }}
{{- end }}
{{- with (index . 0).Values.tls.caSecretName }}
- name: ca
  secret:
    secretName: {{ . }}
{{- end }}
{{- end }}
