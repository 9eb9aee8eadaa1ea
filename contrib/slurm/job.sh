#!/bin/sh
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
# A job that maps one array in all of its tasks: sbatch job.sh big.npy
# For clusters whose prolog starts the agents (treecast-batch(7)).
set -eu
array=${1:?usage: sbatch job.sh ARRAY.npy}

treecast send -w "$SLURM_JOB_NODELIST" "$array"
srun treecast attach "$(basename "$array")" -- python3 -c '
import os, numpy
a = numpy.load(os.environ["TREECAST_ARRAY_PATH"], mmap_mode="r")
print(os.environ["SLURM_PROCID"], os.uname().nodename, a.dtype, a.shape, a.flat[0])
'
