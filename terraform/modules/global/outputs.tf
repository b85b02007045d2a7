output "first" {
  description = "Values of the Helm chart in the first region."
  value       = module.first.values
}

output "second" {
  description = "Values of the Helm chart in the second region."
  value       = module.second.values
}

output "global_cluster" {
  description = "For a failover: its id, and the cluster of each region."
  value       = { id = aws_rds_global_cluster.this.id, first = module.first.database_arn, second = module.second.database_arn }
}
