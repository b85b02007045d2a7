variable "name" {
  description = "What everything is called, such as orrery-production."
  type        = string
}

variable "cidr" {
  description = "The network's addresses, a /16."
  type        = string
  default     = "10.20.0.0/16"
  validation {
    condition     = can(cidrhost(var.cidr, 0)) && endswith(var.cidr, "/16")
    error_message = "Give a /16, such as 10.20.0.0/16: it becomes nine subnets of /20."
  }
}

variable "zones" {
  description = "Availability zones by name, such as eu-central-1a: named, so that a zone which is added to the region moves nothing."
  type        = list(string)
  validation {
    condition     = length(distinct(var.zones)) == length(var.zones) && length(var.zones) >= 2 && length(var.zones) <= 3
    error_message = "Two or three zones: a load balancer and a database need two."
  }
}

variable "nat_per_zone" {
  description = "A NAT gateway in each zone; otherwise one, whose zone is then a point of failure for what goes out."
  type        = bool
  default     = true
}

variable "endpoints" {
  description = "AWS services that are reached inside of the network."
  type        = list(string)
}

variable "flow_log_days" {
  description = "How long refused connections stay in the log."
  type        = number
  default     = 30
}

variable "kms_key_arn" {
  description = "The key that encrypts logs."
  type        = string
}
