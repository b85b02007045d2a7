variable "name" {
  description = "What alarms begin with."
  type        = string
}

variable "cluster_name" {
  description = "The cluster whose logs and figures are kept; it has nodes."
  type        = string
}

variable "follows" {
  description = "Whether its database follows another region's."
  type        = bool
  default     = false
}

variable "kms_key_arn" {
  description = "The key of logs and of the topic."
  type        = string
}

variable "mail" {
  description = "Addresses that alarms and the budget reach."
  type        = list(string)
}

variable "budget_usd" {
  description = "A month's costs of the account, above 80 % of which a mail goes out; 0: none."
  type        = number
}

variable "log_days" {
  description = "How long what containers log is kept."
  type        = number
  default     = 365
}

variable "database_cluster_id" {
  description = "Of PostgreSQL."
  type        = string
}

variable "database_connections" {
  description = "How many connections are too many."
  type        = number
  default     = 300
}

variable "broker_name" {
  description = "Of RabbitMQ."
  type        = string
}

variable "broker_memory_bytes" {
  description = "What is too much memory of a node: 80 % of RabbitMQ's limit."
  type        = number
}

variable "cache_id" {
  description = "Of Valkey."
  type        = string
}

variable "balancer_suffix" {
  description = "Of the load balancer."
  type        = string
}

variable "target_group_suffix" {
  description = "Of its targets."
  type        = string
}
