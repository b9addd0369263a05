{{/* The spec of the head's pod, of a StatefulSet or of a RayCluster. */}}
{{- define "computility.rayHeadPodSpec" -}}
serviceAccountName: {{ include "computility.fullname" . }}-ray
automountServiceAccountToken: false
enableServiceLinks: false
shareProcessNamespace: true
terminationGracePeriodSeconds: {{ .Values.ray.terminationGracePeriodSeconds }}
{{- include "computility.pullSecrets" . | nindent 0 }}
securityContext:
  {{- include "computility.podSecurityContext" . | nindent 2 }}
{{- include "computility.placement" .Values.ray.head | nindent 0 }}
containers:
  - name: ray
    image: {{ include "computility.image" (list . .Values.image) }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    command:
      - ray
      - start
      - --head
      - --block
      - --node-ip-address=$(POD_IP)
      - --port=6379
      - --num-cpus=0
      - --num-gpus=0
      - --labels=computility.io/agent=none
      - --min-worker-port=0
      - --max-worker-port=0
      - --dashboard-agent-listen-port=0
      - --include-dashboard=false
      - --include-log-monitor=false
      - --object-store-memory={{ int64 .Values.ray.objectStoreBytes }}
      - --disable-usage-stats
      - --log-style=record
    env:
      {{- include "computility.env.pod" . | nindent 6 }}
      {{- include "computility.env.ray" . | nindent 6 }}
      {{- include "computility.env.extra" . | nindent 6 }}
    ports:
      - name: gcs
        containerPort: 6379
        protocol: TCP
    startupProbe:
      tcpSocket: {port: gcs}
      periodSeconds: 2
      failureThreshold: 60
    livenessProbe:
      tcpSocket: {port: gcs}
      periodSeconds: 10
      timeoutSeconds: 5
      failureThreshold: 6
    readinessProbe:
      tcpSocket: {port: gcs}
      periodSeconds: 5
    resources:
      {{- toYaml .Values.ray.head.resources | nindent 6 }}
    securityContext:
      {{- include "computility.containerSecurityContext" . | nindent 6 }}
    volumeMounts:
      - name: scratch
        mountPath: /tmp
      - name: shm
        mountPath: /dev/shm
volumes:
  - name: scratch
    emptyDir: {}
  - name: shm
    emptyDir:
      medium: Memory
      sizeLimit: 256Mi
{{- end }}
