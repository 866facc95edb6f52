"""The streaming jobs over the landing and the Delta tables, and the functions they share."""

from conf.interrupt import end_quietly_on_ctrl_c

end_quietly_on_ctrl_c()  # before the imports of a program, which take seconds
