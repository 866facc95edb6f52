"""How the system is run: one TOML file for each way, and the typed settings that they fill."""

import os

# MLflow would report its use to its makers.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Its progress messages go beside ours; its warnings stay.
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
