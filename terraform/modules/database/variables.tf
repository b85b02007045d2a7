variable "name" {
  description = "The database cluster's name."
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

variable "zones" {
  description = "Availability zones over which instances are spread."
  type        = list(string)
}

variable "client_security_group_id" {
  description = "Who may connect."
  type        = string
}

variable "engine_version" {
  description = "Of Aurora PostgreSQL; 15 or later."
  type        = string
  default     = "17.5"
}

variable "instance_class" {
  description = "Of each instance; db.serverless scales by itself."
  type        = string
}

variable "instances" {
  description = "A writer and readers; one is no failover."
  type        = number
  validation {
    condition     = var.instances >= 1 && var.instances <= 6
    error_message = "One to six instances."
  }
}

variable "serverless_min" {
  description = "Capacity units at least, with db.serverless."
  type        = number
  default     = 0.5
}

variable "serverless_max" {
  description = "Capacity units at most, with db.serverless."
  type        = number
  default     = 4
}

variable "password" {
  description = "Of the user orrery, who makes the services' roles."
  type        = string
  sensitive   = true
}

variable "kms_key_arn" {
  description = "The key that encrypts data, backups and logs."
  type        = string
}

variable "backup_days" {
  description = "How far back a moment can be restored."
  type        = number
  default     = 14
}

variable "log_days" {
  description = "How long the server's log is kept."
  type        = number
  default     = 365
}

variable "deletion_protection" {
  description = "Whether destroying it is refused, and a last snapshot taken."
  type        = bool
  default     = true
}

variable "global_cluster_id" {
  description = "The global database that it is a part of."
  type        = string
  default     = null
}

variable "secondary" {
  description = "Whether it is the reading region of a global database."
  type        = bool
  default     = false
}
