"""The kinds of object that the operator reads or writes."""

from __future__ import annotations

from drse_operator.api.base import GROUP, VERSION
from drse_operator.cluster.client import Kind

DEEPSEEKJOB = Kind(f"/apis/{GROUP}/{VERSION}", "deepseekjobs", "DeepSeekJob")
GPUQUEUE = Kind(f"/apis/{GROUP}/{VERSION}", "gpuqueues", "GPUQueue", namespaced=False)
POD = Kind("/api/v1", "pods", "Pod")
SERVICE = Kind("/api/v1", "services", "Service")
NODE = Kind("/api/v1", "nodes", "Node", namespaced=False)
CONFIG_MAP = Kind("/api/v1", "configmaps", "ConfigMap")
NAMESPACE = Kind("/api/v1", "namespaces", "Namespace", namespaced=False)
CLAIM = Kind("/apis/resource.k8s.io/v1", "resourceclaims", "ResourceClaim")
SLICE = Kind("/apis/resource.k8s.io/v1", "resourceslices", "ResourceSlice", namespaced=False)
TAINT_RULE = Kind("/apis/resource.k8s.io/v1", "devicetaintrules", "DeviceTaintRule", namespaced=False)
PRIORITY_CLASS = Kind("/apis/scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", namespaced=False)
LEASE = Kind("/apis/coordination.k8s.io/v1", "leases", "Lease")
INGRESS = Kind("/apis/networking.k8s.io/v1", "ingresses", "Ingress")
EVENT = Kind("/apis/events.k8s.io/v1", "events", "Event")

BY_NAME = {
    kind.kind: kind
    for kind in (DEEPSEEKJOB, GPUQUEUE, POD, SERVICE, NODE, NAMESPACE, CLAIM, SLICE, PRIORITY_CLASS, LEASE)
}
