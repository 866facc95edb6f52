"""How the system is run: one TOML file for each way, and the typed settings that they fill."""

import os

# MLflow would report its use to its makers.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# A connection that stays open would go on reading a SQLite file that was moved or replaced.
os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
# Its progress messages go beside ours; its warnings stay.
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
# OpenMP's threads would spin while they wait: ten times as slow beside another busy process.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
