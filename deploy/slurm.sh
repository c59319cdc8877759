#!/bin/sh
# A robustness plan on a Slurm cluster, one shard for each task of an array:
#
#     sbatch --array=0-15 deploy/slurm.sh plan.toml results
#     ventral report results          # when the array has ended
#
# More settings of the cluster's own (--partition, --account) go before the script's name. Where
# tasks were cut off, the same line goes on where they were: shards that are finished take no time.
#SBATCH --job-name=ventral
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=8G
#SBATCH --time=08:00:00
set -eu

plan=$1
results=$2
# Slurm counts from 0 here, shards from 1.
shard=$((SLURM_ARRAY_TASK_ID + 1))/$SLURM_ARRAY_TASK_COUNT

exec ventral evaluate "$plan" --shard "$shard" --jobs "${SLURM_CPUS_PER_TASK:-1}" --output "$results"
