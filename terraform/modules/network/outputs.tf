output "vpc_id" {
  description = "The network."
  value       = aws_vpc.this.id
}

output "zones" {
  description = "The availability zones in use."
  value       = var.zones
}

output "public_subnet_ids" {
  description = "Subnets of load balancers."
  value       = [for zone in var.zones : aws_subnet.public[zone].id]
}

output "private_subnet_ids" {
  description = "Subnets of the cluster."
  value       = [for zone in var.zones : aws_subnet.private[zone].id]
}

output "database_subnet_ids" {
  description = "Subnets of what keeps data."
  value       = [for zone in var.zones : aws_subnet.database[zone].id]
}

output "public_cidrs" {
  description = "Addresses of the public subnets, from which the load balancer comes."
  value       = [for zone in var.zones : local.public[zone]]
}

output "private_cidrs" {
  description = "Addresses of the private subnets, from which pods come."
  value       = [for zone in var.zones : local.private[zone]]
}

output "nat_addresses" {
  description = "The addresses by which the cluster goes out."
  value       = [for address in aws_eip.nat : address.public_ip]
}

output "database_cidrs" {
  description = "Addresses of the database subnets."
  value       = [for zone in var.zones : local.database[zone]]
}
