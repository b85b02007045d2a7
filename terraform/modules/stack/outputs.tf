# The values of the layout: terraform output -json values | helm upgrade --install orrery kubernetes/chart/orrery --values -
output "values" {
  description = "Values of the Helm chart."
  value = {
    environment = var.environment
    host        = var.host
    # Managed by AWS, so not in the cluster.
    parts    = { postgres = false, rabbitmq = false, redis = false, ingress = false }
    settings = local.settings
    patches = {
      "NetworkPolicy/gateway-edge" = { spec = { ingress = [{
        from  = [for cidr in module.network.public_cidrs : { ipBlock = { cidr = cidr } }]
        ports = [{ port = 8080 }]
      }] } }
    }
    extra = concat(local.extra, local.external_secrets)
  }
}

locals {
  # The load balancer registers the gateway's pods; pods reach what is managed, by TLS.
  extra = [
    {
      apiVersion = "elbv2.k8s.aws/v1beta1"
      kind       = "TargetGroupBinding"
      metadata   = { name = "gateway-edge" }
      spec = {
        targetGroupARN = module.edge.target_group_arn
        targetType     = "ip"
        serviceRef     = { name = "gateway-edge", port = 8080 }
      }
    },
    {
      apiVersion = "networking.k8s.io/v1"
      kind       = "NetworkPolicy"
      metadata   = { name = "managed" }
      spec = {
        podSelector = { matchExpressions = [{ key = "app.kubernetes.io/name", operator = "In", values = ["autha", "spinoza", "maily", "discovery", "partners", "console"] }] }
        policyTypes = ["Egress"]
        egress = [{
          to    = [for cidr in module.network.database_cidrs : { ipBlock = { cidr = cidr } }]
          ports = [{ port = 5432 }, { port = 5671 }, { port = 443 }]
        }]
      }
    },
    {
      apiVersion = "networking.k8s.io/v1"
      kind       = "NetworkPolicy"
      metadata   = { name = "managed-cache" }
      spec = {
        podSelector = { matchExpressions = [{ key = "app.kubernetes.io/name", operator = "In", values = ["gateway", "autha"] }] }
        policyTypes = ["Egress"]
        egress = [{
          to    = [for cidr in module.network.database_cidrs : { ipBlock = { cidr = cidr } }]
          ports = [{ port = 6379 }]
        }]
      }
    },
  ]

  # Those of kubernetes/components/external-secrets, under this installation's prefix.
  external_secrets = [for name, keys in module.secrets.keys : {
    apiVersion = "external-secrets.io/v1"
    kind       = "ExternalSecret"
    metadata   = { name = name }
    spec = {
      refreshInterval = "1h"
      secretStoreRef  = { kind = "ClusterSecretStore", name = "orrery" }
      target          = { name = name, creationPolicy = "Owner" }
      data            = [for key in keys : { secretKey = key, remoteRef = { key = "${local.prefix}/${name}", property = key } }]
    }
  }]

  settings = merge({
    ORRERY_AUTHA__PUBLIC_URL = "https://${var.host}"
    ORRERY_STORAGE__ENDPOINT = "https://s3.${data.aws_region.here.region}.amazonaws.com"
    ORRERY_STORAGE__REGION   = data.aws_region.here.region
    ORRERY_STORAGE__BUCKET   = module.bucket.name
  }, local.notifications ? { ORRERY_STORAGE__UPLOADED_EVENTS = "notifications" } : {})
}

output "settings" {
  description = "ORRERY_ variables of every service."
  value       = local.settings
}

output "target_group_arn" {
  description = "For a TargetGroupBinding of your own; `values` has one."
  value       = module.edge.target_group_arn
}

output "database_cidrs" {
  description = "Where PostgreSQL, RabbitMQ and Valkey are, for egress policies."
  value       = module.network.database_cidrs
}

output "cluster_name" {
  description = "aws eks update-kubeconfig --name NAME"
  value       = module.cluster.name
}

output "database_arn" {
  description = "For a failover between regions."
  value       = module.database.arn
}

output "bucket" {
  description = "Name, address and key of the bucket."
  value       = { name = module.bucket.name, arn = module.bucket.arn, kms_key_arn = aws_kms_key.this.arn }
}

output "edge" {
  description = "The load balancer's own name and its zone."
  value       = { dns_name = module.edge.dns_name, zone_id = module.edge.zone_id }
}

output "nat_addresses" {
  description = "The addresses by which it goes out; mail servers ask for them."
  value       = module.network.nat_addresses
}

output "joined" {
  description = "The global database, once this region's database is a part of it."
  value       = var.global_cluster_id
  depends_on  = [module.database]
}
