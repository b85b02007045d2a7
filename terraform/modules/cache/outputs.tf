output "endpoint" {
  description = "The primary, by TLS on port 6379."
  value       = aws_elasticache_replication_group.this.primary_endpoint_address
}

output "id" {
  description = "For alarms."
  value       = aws_elasticache_replication_group.this.replication_group_id
}
