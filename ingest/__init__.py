"""From the payments API to the landing folder. Knows no Spark."""
