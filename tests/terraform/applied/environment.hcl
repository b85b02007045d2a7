# After an apply with mocked providers all that the layout takes is known.
run "apply" {
  command = apply

  assert {
    condition     = output.values.host == var.host && output.values.settings.ORRERY_AUTHA__PUBLIC_URL == "https://${var.host}"
    error_message = "the layout answers to another name"
  }
  assert {
    condition     = output.values.parts == { postgres = false, rabbitmq = false, redis = false, ingress = false }
    error_message = "what AWS manages is in the cluster as well"
  }
  assert {
    condition     = one([for each in output.values.extra : each.spec.targetGroupARN if each.kind == "TargetGroupBinding"]) == output.target_group_arn
    error_message = "pods are registered with another target group"
  }
  assert {
    condition     = can(regex("^orrery-(deve|stag|prod)-123456789012-eu-central-1$", output.values.settings.ORRERY_STORAGE__BUCKET))
    error_message = "the bucket has another name"
  }
}
