variable "name" {
  description = "The cache's name."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "subnet_ids" {
  description = "Database subnets."
  type        = list(string)
}

variable "client_security_group_id" {
  description = "Who may connect."
  type        = string
}

variable "node_type" {
  description = "Of each node."
  type        = string
}

variable "nodes" {
  description = "A primary and replicas; one is no failover."
  type        = number
}

variable "password" {
  description = "16 to 128 letters and digits."
  type        = string
  sensitive   = true
}

variable "kms_key_arn" {
  description = "The key that encrypts it."
  type        = string
}
