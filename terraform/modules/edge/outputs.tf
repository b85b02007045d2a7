output "target_group_arn" {
  description = "What the gateway's pods are registered with."
  value       = aws_lb_target_group.gateway.arn
}

output "target_group_suffix" {
  description = "For alarms."
  value       = aws_lb_target_group.gateway.arn_suffix
}

output "suffix" {
  description = "For alarms."
  value       = aws_lb.this.arn_suffix
}

output "dns_name" {
  description = "The load balancer's own name."
  value       = aws_lb.this.dns_name
}

output "zone_id" {
  description = "Of its own name."
  value       = aws_lb.this.zone_id
}
