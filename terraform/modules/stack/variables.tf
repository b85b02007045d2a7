variable "name" {
  description = "What everything is called, such as orrery-production; 20 characters at most."
  type        = string
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,19}$", var.name))
    error_message = "Small letters, digits and dashes, 3 to 20 of them."
  }
}

variable "host" {
  description = "How people reach it."
  type        = string
}

variable "zone_id" {
  description = "The hosted zone of the host."
  type        = string
}

variable "records" {
  description = "Whether the host leads here; false in one of two regions."
  type        = bool
  default     = true
}

variable "environment" {
  description = "Which checks the layout makes: development, staging or production; the last two refuse to expose anything but the edge."
  type        = string
  default     = "production"
}

variable "namespace" {
  description = "The Kubernetes namespace of the services."
  type        = string
}

variable "cidr" {
  description = "The network's addresses, a /16; two regions have different ones."
  type        = string
  default     = "10.20.0.0/16"
}

variable "zones" {
  description = "Availability zones by name, two or three."
  type        = list(string)
}

variable "endpoints" {
  description = "AWS services that are reached inside of the network; none: by the NAT gateway, which costs less in a small installation."
  type        = list(string)
  default     = ["ecr.api", "ecr.dkr", "sts", "logs", "secretsmanager", "sqs", "eks-auth"]
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

variable "client_cidrs" {
  description = "Networks that may reach the edge."
  type        = list(string)
  default     = ["0.0.0.0/0"]
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

variable "secrets_prefix" {
  description = "What names of secrets begin with; none: the name, so that two installations in one account have their own."
  type        = string
  default     = null
}

variable "shared_secrets" {
  description = "Keys and password of another region of the same installation."
  type        = object({ master = string, mail = string, discovery = string, database = string })
  default     = null
}

variable "database_ca_file" {
  description = "Where pods have the authorities of RDS as PEM; none: TLS without looking at who answers."
  type        = string
  default     = null
}

variable "global_cluster_id" {
  description = "The global database that this region is a part of."
  type        = string
  default     = null
}

variable "secondary" {
  description = "Whether it is the reading region of a global database."
  type        = bool
  default     = false
}

variable "uploads_package" {
  description = "The zipped function of modules/bucket/bridge, when the store tells of uploads; none: autha does."
  type        = string
  default     = null
}
