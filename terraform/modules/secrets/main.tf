# The secrets of kubernetes/components/external-secrets, by the same names and keys under a prefix of each installation. Values made here are in Terraform's state: keep that in a
# bucket that is encrypted and private (docs/terraform.md).

locals {
  # Two regions of one installation share what data were sealed with.
  shared = var.shared == null ? {
    master    = random_bytes.master[0].base64
    mail      = random_bytes.mail[0].base64
    discovery = random_bytes.discovery[0].base64
    database  = random_password.database[0].result
  } : var.shared

  database_url = "postgres://orrery:${local.shared.database}@${var.database_endpoint}:5432/orrery?sslmode=${var.database_ca_file == null ? "require" : "verify-full&sslrootcert=${var.database_ca_file}"}"
  broker_url   = "amqps://orrery:${random_password.broker_services.result}@${var.broker_host}:5671/%2f"

  storage = { for service in ["autha", "spinoza"] : service => {
    storage-access-key = try(var.access_keys[service].id, "")
    storage-secret-key = try(var.access_keys[service].secret, "")
  } }

  secrets = {
    migrate = merge(local.storage.autha, {
      database-url   = local.database_url
      broker-url     = local.broker_url
      management-url = "https://admin:${random_password.broker.result}@${var.broker_host}"
    })
    autha = merge(local.storage.autha, {
      database-url = local.database_url
      broker-url   = local.broker_url
      master-key   = local.shared.master
      mail-key     = local.shared.mail
    })
    spinoza = merge(local.storage.spinoza, {
      database-url = local.database_url
      broker-url   = local.broker_url
    })
    maily = {
      database-url = local.database_url
      broker-url   = local.broker_url
      mail-key     = local.shared.mail
    }
    discovery = {
      database-url  = local.database_url
      broker-url    = local.broker_url
      discovery-key = local.shared.discovery
    }
    console = {
      database-url   = local.database_url
      broker-url     = local.broker_url
      management-url = "https://admin:${random_password.broker.result}@${var.broker_host}"
      console-key    = random_bytes.console.base64
    }
    redis = {
      url = "rediss://:${random_password.cache.result}@${var.cache_endpoint}:6379"
    }
    # Of the function that tells of uploads: a user who may write to the exchange `ingress` alone (docs/operate.md).
    uploads = {
      broker-url = "amqps://uploads:${join("", random_password.uploads[*].result)}@${var.broker_host}:5671/%2f"
    }
  }
}

locals {
  # The names and keys alone, which are no secrets.
  keys = {
    migrate   = ["broker-url", "database-url", "management-url", "storage-access-key", "storage-secret-key"]
    autha     = ["broker-url", "database-url", "mail-key", "master-key", "storage-access-key", "storage-secret-key"]
    spinoza   = ["broker-url", "database-url", "storage-access-key", "storage-secret-key"]
    maily     = ["broker-url", "database-url", "mail-key"]
    discovery = ["broker-url", "database-url", "discovery-key"]
    console   = ["broker-url", "console-key", "database-url", "management-url"]
    redis     = ["url"]
  }
}

resource "random_bytes" "master" {
  count  = var.shared == null ? 1 : 0
  length = 32
}

resource "random_bytes" "mail" {
  count  = var.shared == null ? 1 : 0
  length = 32
}

resource "random_bytes" "discovery" {
  count  = var.shared == null ? 1 : 0
  length = 32
}

# Signs log-ins of operators; each region has its own console.
resource "random_bytes" "console" {
  length = 32
}

resource "random_password" "database" {
  count   = var.shared == null ? 1 : 0
  length  = 40
  special = false
}

resource "random_password" "broker" {
  length  = 40
  special = false
}

resource "random_password" "broker_services" {
  length  = 40
  special = false
}

resource "random_password" "uploads" {
  count   = var.uploads ? 1 : 0
  length  = 40
  special = false
}

resource "random_password" "cache" {
  length  = 64
  special = false
}

resource "aws_secretsmanager_secret" "this" {
  for_each                = merge(local.keys, var.uploads ? { uploads = ["broker-url"] } : {})
  name                    = "${var.prefix}/${each.key}"
  description             = "Orrery: ${each.key}"
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = var.recovery_days
}

resource "aws_secretsmanager_secret_version" "this" {
  for_each      = aws_secretsmanager_secret.this
  secret_id     = each.value.id
  secret_string = jsonencode(local.secrets[each.key])
}
