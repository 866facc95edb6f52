"""From payments to a registered model. Imports the features of ``jobs``, never the reverse."""
