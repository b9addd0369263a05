{{/* Node pools. */}}

{{/* The pool with what `poolDefaults` says in place of what it leaves out: (list . <pool>), as YAML. */}}
{{- define "computility.pool" -}}
{{- $defaults := (index . 0).Values.poolDefaults -}}
{{- $pool := mergeOverwrite (deepCopy $defaults) (index . 1) -}}
{{- $_ := set $pool "image" (include "computility.imageOver" (list $defaults.image (index . 1).image) | fromYaml) -}}
{{- $resource := get (dict "nvidia" "nvidia.com/gpu" "ascend" "huawei.com/Ascend910" "amd" "amd.com/gpu" "cpu" "") $pool.vendor -}}
{{- $accelerator := default dict $pool.accelerator -}}
{{- if and (eq (default "" $pool.procMount) "Unmasked") (not (and (hasKey $pool "hostUsers") (not $pool.hostUsers))) -}}
{{- fail (printf "nodePools: %s: procMount Unmasked is taken by Kubernetes with hostUsers: false alone" $pool.name) -}}
{{- end -}}
{{- $_ := set $pool "accelerator" (mergeOverwrite (dict "resource" $resource "count" (ternary 0 1 (eq $pool.vendor "cpu"))) $accelerator) -}}
{{- if and (hasKey $pool "maxReplicas") (gt (int $pool.replicas) (int $pool.maxReplicas)) -}}
{{- fail (printf "nodePools: %s: replicas (%v) is more than maxReplicas (%v)" $pool.name $pool.replicas $pool.maxReplicas) -}}
{{- end -}}
{{- if and (hasKey $pool "minReplicas") (lt (int $pool.replicas) (int $pool.minReplicas)) -}}
{{- fail (printf "nodePools: %s: replicas (%v) is less than minReplicas (%v)" $pool.name $pool.replicas $pool.minReplicas) -}}
{{- end -}}
{{ toYaml $pool }}
{{- end }}

{{/* What is put behind the full name for a pool's objects, so that both have 52 characters at most: (list . <pool>). */}}
{{- define "computility.poolSuffix" -}}
-{{ include "computility.short" (list (printf "pool-%s" (index . 1).name) (sub 51 (len (include "computility.fullname" (index . 0))))) }}
{{- end }}

{{/* What a Ray container of a pool may ask of the kernel, where the pool says it. */}}
{{- define "computility.poolKernel" -}}
{{- with .seccompProfile }}
seccompProfile:
  type: {{ .type }}
  {{- if eq .type "Localhost" }}
  localhostProfile: {{ required (printf "nodePools: %s: seccompProfile.localhostProfile is not set" $.name) .localhostProfile }}
  {{- end }}
{{- end }}
{{- with .procMount }}
procMount: {{ . }}
{{- end }}
{{- end }}

{{/* Requests and limits of a pool's pod, its devices among both. */}}
{{- define "computility.poolResources" -}}
{{- $devices := dict -}}
{{- if and .accelerator.resource (gt (int .accelerator.count) 0) -}}
{{- $_ := set $devices .accelerator.resource (toString .accelerator.count) -}}
{{- end -}}
{{- with .rdma -}}
{{- $_ := set $devices .resource (toString (default 1 .count)) -}}
{{- end -}}
{{- $resources := default dict .resources -}}
requests:
  {{- toYaml (mergeOverwrite (deepCopy (default dict $resources.requests)) $devices) | nindent 2 }}
{{- $limits := mergeOverwrite (deepCopy (default dict $resources.limits)) $devices }}
{{- if $limits }}
limits:
  {{- toYaml $limits | nindent 2 }}
{{- end }}
{{- end }}

{{/* The spec of a pool's pods: (list . <pool> <pool as the chart wrote it>). */}}
{{- define "computility.poolPodSpec" -}}
{{- $root := index . 0 -}}
{{- $pool := index . 1 -}}
{{- $image := include "computility.imageOver" (list $root.Values.image $pool.image) | fromYaml -}}
serviceAccountName: {{ include "computility.fullname" $root }}-ray
automountServiceAccountToken: false
enableServiceLinks: false
shareProcessNamespace: true
terminationGracePeriodSeconds: {{ $root.Values.ray.terminationGracePeriodSeconds }}
{{- include "computility.pullSecrets" $root }}
securityContext:
  {{- include "computility.podSecurityContext" $root | nindent 2 }}
  {{- with $pool.supplementalGroups }}
  supplementalGroups:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- if hasKey $pool "hostUsers" }}
hostUsers: {{ $pool.hostUsers }}
{{- end }}
{{- with $pool.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- include "computility.placement" $pool }}
{{- with $pool.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $root.Values.topology.enabled }}
initContainers:
  # A pod is told its node's name, not its labels: they are asked of the API server, with a token that no other container has.
  - name: topology
    image: {{ include "computility.image" (list $root $image) }}
    imagePullPolicy: {{ $image.pullPolicy }}
    command:
      - python
      - -m
      - operators.node_labels
      - --node=$(NODE_NAME)
      - --out=/tmp/node-labels.yaml
      {{- range $ray, $kubernetes := $root.Values.topology.labels }}
      - --label={{ $ray }}={{ $kubernetes }}
      {{- end }}
    env:
      {{- include "computility.env.pod" $root | nindent 6 }}
      - name: NODE_NAME
        valueFrom:
          fieldRef:
            fieldPath: spec.nodeName
    resources:
      requests: {cpu: 50m, memory: 128Mi}
    securityContext:
      {{- include "computility.containerSecurityContext" $root | nindent 6 }}
    volumeMounts:
      - name: scratch
        mountPath: /tmp
      - name: account
        mountPath: /var/run/secrets/kubernetes.io/serviceaccount
        readOnly: true
{{- end }}
containers:
  - name: ray
    image: {{ include "computility.image" (list $root $image) }}
    imagePullPolicy: {{ $image.pullPolicy }}
    command:
      {{- include "computility.rayCommand" (list $root (include "computility.rayAddress" $root)) | nindent 6 }}
      - --num-cpus=1
      {{- if $root.Values.topology.enabled }}
      - --labels-file=/tmp/node-labels.yaml
      {{- end }}
      - --labels=computility.io/node=$(POD_NAME),computility.io/pool={{ $pool.name }}
      {{- range $key, $value := $pool.labels }},{{ $key }}={{ $value }}{{ end }}
    env:
      {{- include "computility.env.pod" $root | nindent 6 }}
      {{- include "computility.env.caches" $root | nindent 6 }}
      {{- include "computility.env.ray" $root | nindent 6 }}
      {{- include "computility.env.extra" $root | nindent 6 }}
      {{- with $pool.extraEnv }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    startupProbe:
      exec: {command: [test, -S, /tmp/ray/session_latest/sockets/raylet]}
      periodSeconds: 2
      failureThreshold: 90
    livenessProbe:
      exec: {command: [test, -S, /tmp/ray/session_latest/sockets/raylet]}
      periodSeconds: 30
      failureThreshold: 10
    readinessProbe:
      exec: {command: [test, -S, /tmp/ray/session_latest/sockets/raylet]}
      periodSeconds: 10
    resources:
      {{- include "computility.poolResources" $pool | nindent 6 }}
    securityContext:
      {{- include "computility.containerSecurityContext" $root | nindent 6 }}
        {{- if and $pool.rdma $pool.rdma.lockMemory }}
        add: [IPC_LOCK]
        {{- end }}
      {{- include "computility.poolKernel" $pool | nindent 6 }}
    volumeMounts:
      - name: home
        mountPath: {{ $root.Values.home.mountPath }}
      - name: scratch
        mountPath: /tmp
      - name: shm
        mountPath: /dev/shm
volumes:
  {{- include "computility.homeVolume" $root | nindent 2 }}
  - name: scratch
    emptyDir:
      {{- if $pool.scratch }}
      sizeLimit: {{ $pool.scratch }}
      {{- else }}
      {}
      {{- end }}
  {{- if $root.Values.topology.enabled }}
  - name: account
    projected:
      sources:
        - serviceAccountToken:
            path: token
            expirationSeconds: 3600
        - configMap:
            name: kube-root-ca.crt
            items:
              - key: ca.crt
                path: ca.crt
        - downwardAPI:
            items:
              - path: namespace
                fieldRef:
                  fieldPath: metadata.namespace
  {{- end }}
  - name: shm
    emptyDir:
      medium: Memory
      {{- with $pool.sharedMemory }}
      sizeLimit: {{ . }}
      {{- end }}
{{- end }}

{{/* The rule by which pools reach the API server: at the addresses that are told, else where the cluster says that it is, else in private networks. */}}
{{- define "computility.apiServerRule" -}}
{{- $server := .Values.networkPolicy.poolEgress.apiServer -}}
{{- $cidrs := $server.cidrs -}}
{{- $ports := $server.ports -}}
{{- if not $cidrs -}}
{{- $addresses := list -}}
{{- range (lookup "v1" "Endpoints" "default" "kubernetes").subsets -}}
{{- range .addresses }}{{ $addresses = append $addresses .ip }}{{ end -}}
{{- range .ports }}{{ $ports = append $ports (int .port) }}{{ end -}}
{{- end -}}
{{- with lookup "v1" "Service" "default" "kubernetes" }}{{ $addresses = append $addresses .spec.clusterIP }}{{ end -}}
{{- range $addresses }}{{ $cidrs = append $cidrs (printf "%s/%s" . (ternary "128" "32" (contains ":" .))) }}{{ end -}}
{{- end -}}
- ports:
    {{- range uniq $ports }}
    - {port: {{ int . }}, protocol: TCP}
    {{- end }}
  to:
    {{- range default (list "10.0.0.0/8" "100.64.0.0/10" "172.16.0.0/12" "192.168.0.0/16" "fc00::/7") (uniq $cidrs) }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
{{- end }}

{{/* "yes" for a pool whose number of nodes follows what waits; empty for others. */}}
{{- define "computility.isElastic" -}}
{{- if and (hasKey . "minReplicas") (hasKey . "maxReplicas") }}{{ if lt (int .minReplicas) (int .maxReplicas) }}yes{{ end }}{{ end }}
{{- end }}

{{/* What a node of a pool has, as its `shape` says, as JSON; empty where it says nothing: <pool>. */}}
{{- define "computility.nodeShape" -}}
{{- if .shape -}}
{{- $shape := dict "vendor" .vendor "devices" (max 1 (int .accelerator.count)) -}}
{{- $labels := mergeOverwrite (deepCopy (default dict .labels)) (dict "computility.io/pool" .name) -}}
{{ mergeOverwrite $shape .shape (dict "labels" $labels) | toJson }}
{{- end }}
{{- end }}

{{/* Limits and nodes of the groups of a RayCluster that the operator sizes, by their names, as JSON. */}}
{{- define "computility.elasticGroups" -}}
{{- $found := dict -}}
{{- range $given := .Values.nodePools -}}
{{- $pool := include "computility.pool" (list $ $given) | fromYaml -}}
{{- if and $.Values.operator.enabled (include "computility.isElastic" $pool) -}}
{{- $told := dict "minReplicas" (int $pool.minReplicas) "maxReplicas" (int $pool.maxReplicas) -}}
{{- with include "computility.nodeShape" $pool }}{{ $_ := set $told "shape" (fromJson .) }}{{ end -}}
{{- $_ := set $found $pool.name $told -}}
{{- end -}}
{{- end -}}
{{ toJson $found }}
{{- end }}

{{/*
How many there are of a RayCluster's elastic group: as many as now, which an upgrade is not to change; at first the least.
Where that is more than the most, the operator takes those beyond; KubeRay would take any: (list <pool> <group as it is>).
*/}}
{{- define "computility.elasticGroup" -}}
{{- $pool := index . 0 -}}
{{- $now := index . 1 -}}
{{- $count := int (default 0 $now.replicas) -}}
{{- $count = max (int $pool.minReplicas) (min $count (int (default $count $now.maxReplicas))) -}}
replicas: {{ $count }}
minReplicas: {{ $pool.minReplicas }}
maxReplicas: {{ max $count (int $pool.maxReplicas) }}
{{- with $now.scaleStrategy }}
scaleStrategy:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* "yes" where one of the pools is elastic, and its pods are the chart's. */}}
{{- define "computility.hasElasticPools" -}}
{{- if ne .Values.ray.mode "external" }}
{{- range .Values.nodePools }}
{{- if include "computility.isElastic" (include "computility.pool" (list $ .) | fromYaml) }}yes{{ end }}
{{- end }}
{{- end }}
{{- end }}
