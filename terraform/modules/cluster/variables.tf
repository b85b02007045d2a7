variable "name" {
  description = "The cluster's name."
  type        = string
}

variable "kubernetes_version" {
  description = "1.33 or later: the manifests need it."
  type        = string
  default     = "1.33"
}

variable "subnet_ids" {
  description = "Private subnets of nodes and pods."
  type        = list(string)
}

variable "api_cidrs" {
  description = "Networks that may reach the API from outside; none: it is reached from inside of the network alone."
  type        = list(string)
  default     = []
  validation {
    condition     = !contains(var.api_cidrs, "0.0.0.0/0") && !contains(var.api_cidrs, "::/0")
    error_message = "Name networks: the API is not for everybody."
  }
}

variable "administrators" {
  description = "IAM roles whose holders administer the cluster."
  type        = list(string)
}

variable "node_types" {
  description = "Instance types of the nodes."
  type        = list(string)
}

variable "ami_type" {
  description = "Image of the nodes: AL2023_ARM_64_STANDARD for Graviton, AL2023_x86_64_STANDARD otherwise."
  type        = string
  default     = "AL2023_x86_64_STANDARD"
}

variable "nodes_min" {
  description = "Nodes at least; one per zone in production."
  type        = number
}

variable "nodes_max" {
  description = "Nodes at most."
  type        = number
}

variable "node_disk_gib" {
  description = "Disk of a node."
  type        = number
  default     = 50
}

variable "volumes" {
  description = "Whether the cluster can make volumes."
  type        = bool
  default     = true
}

variable "kms_key_arn" {
  description = "The key that encrypts secrets, disks and logs."
  type        = string
}

variable "log_days" {
  description = "How long the control plane's logs are kept."
  type        = number
  default     = 365
}

variable "deletion_protection" {
  description = "Whether destroying it is refused."
  type        = bool
  default     = true
}
