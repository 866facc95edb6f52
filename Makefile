# make demo | make loop-demo | make cluster-demo | make notebooks | make test | make lint | make audit | make bench | make fuzz | make soak | make drills | make mlflow | make setup. Needs Python 3.11+, Java 17+ and nothing else.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
JAVA := $(if $(JAVA_HOME),$(JAVA_HOME)/bin/java,java)
READY := .venv/.ready

# Spark, Python and pip are those of .venv, whatever the shell has set up.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
unexport SPARK_HOME PYSPARK_PYTHON PYSPARK_DRIVER_PYTHON PYTHONPATH PYTHONHOME

.PHONY: demo loop-demo cluster-demo notebooks setup test lint audit fuzz bench soak drills mlflow check
.DEFAULT_GOAL := setup

demo: setup
	@python -m jobs.demo

loop-demo: setup
	@python -m jobs.loop_demo --config conf/loop.toml

cluster-demo: setup
	@python -m jobs.cluster_demo --config conf/cluster.toml

notebooks: setup
	@mkdir -p var
	@echo "making the tables that the notebooks look at (one to two minutes) …"
	@spark-submit --properties-file spark-defaults.conf notebooks/make_tables.py \
		--config conf/notebooks.toml > var/notebooks.log 2>&1 \
		|| { tail -n 20 var/notebooks.log; echo "the tables were not made: see var/notebooks.log"; exit 1; }
	@echo "executing the notebooks (a minute) …"
	@python -m notebooks.execute

test: setup
	@python -m pytest --numprocesses 2 --dist loadgroup

lint: setup
	@ruff check . && ruff format --check . && mypy

# Without a network: what is installed is what constraints.txt pins, and fits together. Known
# vulnerabilities are looked up with one, by pip-audit (README).
audit: setup
	@python -m pip check
	@! python -m pip freeze --exclude-editable | grep -vixFf constraints.txt \
		|| { echo "installed, and not so in constraints.txt: see above"; exit 1; }
	@echo "What is installed is what constraints.txt pins."

fuzz: setup
	@python -m tests.fuzz $(FUZZ)

bench: setup
	@python -m benchmarks $(BENCH)

soak: setup
	@python -m benchmarks.soak $(SOAK)

drills: setup
	@python -m tests.drills $(DRILLS)

# The store may hold a password, so the server gets it by its environment: what it is started with, all
# users of the machine can see. With MLFLOW_AUTH_CONFIG_PATH set (and MLFLOW_FLASK_SERVER_SECRET_KEY), users log in.
MLFLOW_HOST ?= 127.0.0.1
MLFLOW_PORT ?= 5000
export MLFLOW_STORE ?= sqlite:///var/mlflow.db
MLFLOW_ARTIFACTS ?= var/mlartifacts

mlflow: setup
	@mkdir -p var
	@MLFLOW_BACKEND_STORE_URI="$$MLFLOW_STORE" mlflow server --host $(MLFLOW_HOST) --port $(MLFLOW_PORT) --workers 1 --artifacts-destination $(MLFLOW_ARTIFACTS) $(if $(MLFLOW_AUTH_CONFIG_PATH),--app-name basic-auth)

setup: check $(READY)

check:
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "Python 3.11 or newer is missing: install it (python.org, apt install python3.11-venv, brew install python@3.12), or name it with make PYTHON=…"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is missing: apt install python3-venv"; exit 1; }
	@version=$$("$(JAVA)" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1); \
	test "$${version:-0}" -ge 17 || { echo "Java 17 or newer is missing (found: $${version:-none}): install one (apt install openjdk-17-jre-headless, brew install openjdk@17, adoptium.net), or set JAVA_HOME"; exit 1; }

$(READY): pyproject.toml constraints.txt spark-defaults.conf
	@echo "setting up .venv: pinned packages (1 to 3 minutes the first time) …"
	@$(PYTHON) -m venv .venv
	@python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@echo "setting up .venv: Spark's jars (half a minute the first time) …"
	@spark-submit --properties-file spark-defaults.conf jobs/spark.py > .venv/spark.log 2>&1 \
		|| { tail -n 20 .venv/spark.log; echo "Spark did not start: see .venv/spark.log"; exit 1; }
	@tail -n 1 .venv/spark.log
	@touch $(READY)
