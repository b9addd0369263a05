{{/* Names, labels, images and contexts that all templates share. */}}

{{- define "computility.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* A name of so many characters at most, with a mark of the whole one where it is cut: (list <name> <most>). */}}
{{- define "computility.short" -}}
{{- $name := index . 0 -}}
{{- $most := int (index . 1) -}}
{{- if le (len $name) $most }}{{ $name }}{{ else }}{{ printf "%s-%s" (trunc (int (sub $most 9)) $name | trimSuffix "-") (sha256sum $name | trunc 8) }}{{ end -}}
{{- end }}

{{/* At most 40 characters: what is put behind it has 12, since a StatefulSet's name is part of a label of 63 with 11 more. */}}
{{- define "computility.fullname" -}}
{{- $name := printf "%s-%s" .Release.Name (include "computility.name" .) -}}
{{- if contains (include "computility.name" .) .Release.Name }}{{ $name = .Release.Name }}{{ end -}}
{{- $name = default (replace "." "-" $name) .Values.fullnameOverride -}}
{{- if not (regexMatch "^[a-z]" $name) -}}
{{- fail (printf "fullnameOverride: names of Services begin with a letter, and %s does not: set fullnameOverride, or another name of the release" $name) -}}
{{- end -}}
{{- include "computility.short" (list $name 40) -}}
{{- end }}

{{/* Name of objects that no namespace holds: another release of this name may be in another namespace. */}}
{{- define "computility.clusterName" -}}
{{- printf "%s-%s" (include "computility.fullname" .) .Release.Namespace | trimSuffix "-" }}
{{- end }}

{{- define "computility.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "computility.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: computility
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels by which Services, policies and budgets find the pods of a component: (list . "control"). */}}
{{- define "computility.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "computility.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Metadata of an object of a component: (list . "control" "-suffix"). */}}
{{- define "computility.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "computility.fullname" $root }}{{ index . 2 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "computility.labels" $root | nindent 2 }}
  app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of a component's pods: (list . "control"). */}}
{{- define "computility.podLabels" -}}
{{ include "computility.selector" . }}
{{- with (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An image's values with what lies over them, as YAML: (list <below> <above>). A digest is of one repository and tag: another takes it away. */}}
{{- define "computility.imageOver" -}}
{{- $above := default dict (index . 1) -}}
{{- $image := mergeOverwrite (deepCopy (default dict (index . 0))) $above -}}
{{- if and (or $above.repository $above.tag) (not $above.digest) }}{{ $_ := set $image "digest" "" }}{{ end -}}
{{ toYaml $image }}
{{- end }}

{{/* One image: (list . <image values>). */}}
{{- define "computility.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $registry := default $image.registry $root.Values.global.imageRegistry -}}
{{- $name := $image.repository -}}
{{- if $registry }}{{ $name = printf "%s/%s" (trimSuffix "/" $registry) $name }}{{ end -}}
{{- if $image.digest }}{{ printf "%s@%s" $name $image.digest }}{{ else }}{{ printf "%s:%s" $name (default $root.Chart.AppVersion $image.tag) }}{{ end -}}
{{- end }}

{{- define "computility.pullSecrets" -}}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "computility.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ .Values.podSecurity.runAsUser }}
runAsGroup: {{ .Values.podSecurity.runAsGroup }}
fsGroup: {{ .Values.podSecurity.fsGroup }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "computility.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end }}

{{- define "computility.instanceSecret" -}}
{{- default (printf "%s-instance" (include "computility.fullname" .)) .Values.secrets.existingSecret }}
{{- end }}

{{- define "computility.adminSecret" -}}
{{- default (printf "%s-admin" (include "computility.fullname" .)) .Values.secrets.existingAdminSecret }}
{{- end }}

{{- define "computility.databaseSecret" -}}
{{- if eq .Values.database.mode "builtin" -}}
{{- default (printf "%s-database" (include "computility.fullname" .)) .Values.database.builtin.existingSecret }}
{{- else -}}
{{- default (printf "%s-database" (include "computility.fullname" .)) .Values.database.external.existingSecret }}
{{- end }}
{{- end }}

{{- define "computility.databaseSecretKey" -}}
{{- if eq .Values.database.mode "builtin" }}url{{ else }}{{ .Values.database.external.secretKey }}{{ end }}
{{- end }}

{{/* A value of a Secret of the release that is there already, else the one given: (list . <secret> <key> <new>). */}}
{{- define "computility.kept" -}}
{{- $found := lookup "v1" "Secret" (index . 0).Release.Namespace (index . 1) -}}
{{- $data := default dict (get (default dict $found) "data") -}}
{{- if hasKey $data (index . 2) }}{{ index $data (index . 2) }}{{ else }}{{ index . 3 | b64enc }}{{ end }}
{{- end }}

{{- define "computility.controlUrl" -}}
{{ ternary "https" "http" (ne .Values.control.tls.secretName "") }}://{{ include "computility.fullname" . }}-control:8001
{{- end }}

{{- define "computility.gatewayUrl" -}}
{{ ternary "https" "http" (ne .Values.gateway.tls.secretName "") }}://{{ include "computility.fullname" . }}-gateway:8000/v1
{{- end }}

{{/* Where Ray's head is reached; control joins and pools follow. */}}
{{- define "computility.rayAddress" -}}
{{- if eq .Values.ray.mode "external" -}}
{{ required "ray.external.address is not set, which ray.mode=external needs" .Values.ray.external.address }}
{{- else if eq .Values.ray.mode "kuberay" -}}
{{ include "computility.fullname" . }}-head-svc:6379
{{- else -}}
{{ include "computility.fullname" . }}-ray-head:6379
{{- end }}
{{- end }}

{{- define "computility.home" -}}
{{ .Values.home.mountPath }}/computility
{{- end }}

{{- define "computility.homeVolume" -}}
- name: home
{{- if .Values.home.persistence.enabled }}
  persistentVolumeClaim:
    claimName: {{ default (printf "%s-home" (include "computility.fullname" .)) .Values.home.persistence.existingClaim }}
{{- else }}
  emptyDir: {}
{{- end }}
{{- end }}

{{/* Not two of a component on one machine, where that can be: (list . "control"). */}}
{{- define "computility.apart" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "computility.selector" . | nindent 12 }}
{{- end }}

{{/* Node selector, tolerations and priority of a component's values. */}}
{{- define "computility.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}
