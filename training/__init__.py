"""From payments to a registered model. Imports the features of ``jobs``, never the reverse."""

from conf.interrupt import end_quietly_on_ctrl_c

end_quietly_on_ctrl_c()  # before the imports of a program, which take seconds
