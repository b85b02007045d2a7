variable "name" {
  description = "What everything is called; its regions get -1 and -2. 18 characters at most."
  type        = string
}

variable "host" {
  description = "How people reach it."
  type        = string
}

variable "zone_id" {
  description = "The hosted zone of the host."
  type        = string
}

variable "namespace" {
  description = "The Kubernetes namespace of the services."
  type        = string
}

variable "size" {
  description = "How large it is; docs/operate/regions.md has three sizes and what they cost."
  type = object({
    node_types          = list(string)
    ami_type            = string
    nodes_min           = number
    nodes_max           = number
    nat_per_zone        = bool
    database_class      = string
    database_instances  = number
    cache_type          = string
    cache_nodes         = number
    broker_type         = string
    broker_cluster      = bool
    broker_memory_bytes = number
  })
}

variable "api_cidrs" {
  description = "Networks that may reach the cluster's API from outside."
  type        = list(string)
  default     = []
}

variable "administrators" {
  description = "IAM roles whose holders administer the cluster."
  type        = list(string)
}

variable "alarm_mail" {
  description = "Addresses that alarms reach."
  type        = list(string)
}

variable "budget_usd" {
  description = "A month's costs; 0: no budget."
  type        = number
}

variable "deletion_protection" {
  description = "Whether destroying what keeps data is refused."
  type        = bool
  default     = true
}

variable "first_cidr" {
  description = "The first region's addresses."
  type        = string
  default     = "10.20.0.0/16"
}

variable "second_cidr" {
  description = "The second region's addresses."
  type        = string
  default     = "10.21.0.0/16"
}

variable "engine_version" {
  description = "Of Aurora PostgreSQL, the same as of the regions."
  type        = string
  default     = "17.5"
}

variable "first_zones" {
  description = "The first region's availability zones by name, two or three."
  type        = list(string)
}

variable "second_zones" {
  description = "The second region's availability zones by name, two or three."
  type        = list(string)
}
