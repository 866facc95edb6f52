"""From the payments API to the landing folder or a Kafka topic. Knows no Spark."""
