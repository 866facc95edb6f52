"""From the payments API to the landing folder or a Kafka topic. Knows no Spark."""

from conf.interrupt import end_quietly_on_ctrl_c

end_quietly_on_ctrl_c()  # before the imports of a program, which take seconds
