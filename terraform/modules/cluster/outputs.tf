output "name" {
  description = "The cluster."
  value       = aws_eks_cluster.this.name
}

output "endpoint" {
  description = "Its API."
  value       = aws_eks_cluster.this.endpoint
}

output "security_group_id" {
  description = "The group of its nodes and pods."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "node_role_name" {
  description = "The nodes' role."
  value       = aws_iam_role.node.name
}

output "arn" {
  description = "The cluster."
  value       = aws_eks_cluster.this.arn
}

output "with_nodes" {
  description = "The cluster's name, once it has nodes to run something on."
  value       = aws_eks_cluster.this.name
  depends_on  = [aws_eks_node_group.this]
}
