# After an apply with mocked providers both regions have what their layouts take.
run "apply" {
  command = apply

  assert {
    condition     = output.first.host == var.host && output.second.host == var.host
    error_message = "the regions answer to different names"
  }
  assert {
    condition     = output.first.settings.ORRERY_STORAGE__BUCKET != output.second.settings.ORRERY_STORAGE__BUCKET
    error_message = "the regions have one bucket"
  }
  assert {
    condition     = output.global_cluster.id != null && output.global_cluster.first != null && output.global_cluster.second != null
    error_message = "a failover needs the global cluster and both of its clusters"
  }
}
