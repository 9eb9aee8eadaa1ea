# TC_SLURM_KILL_STEP(FORM, ARGUMENTS) - define SLURM_KILL_STEP as FORM where slurm_kill_job_step takes these arguments.
AC_DEFUN([TC_SLURM_KILL_STEP], [
  AS_IF([test "x$slurm_kill_step" = xnone], [
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <slurm/slurm.h>]], [[return slurm_kill_job_step($2);]])],
      [slurm_kill_step=$1])])
])

# TC_SLURM - --with-slurm: build the SPANK plug-in. By default where Slurm's headers (libslurm-dev) are.
AC_DEFUN([TC_SLURM], [
  AC_ARG_WITH([slurm], [AS_HELP_STRING([--with-slurm], [build the plug-in for Slurm's srun, sbatch and salloc (auto)])],
    [], [with_slurm=auto])
  have_slurm=no
  AS_IF([test "x$with_slurm" != xno], [AC_CHECK_HEADER([slurm/spank.h], [have_slurm=yes])])
  AS_IF([test "x$with_slurm$have_slurm" = xyesno], [AC_MSG_ERROR([no slurm/spank.h: install libslurm-dev])])
  # Two numbers in Slurm 22.05, flags as well in 24.11, a step's identity as one record in 26.05.
  AS_IF([test "x$have_slurm" = xyes], [
    AC_MSG_CHECKING([what slurm_kill_job_step takes])
    slurm_kill_step=none
    TC_SLURM_KILL_STEP([1], [(uint32_t)1, (uint32_t)2, (uint16_t)9])
    TC_SLURM_KILL_STEP([2], [(uint32_t)1, (uint32_t)2, (uint16_t)9, (uint16_t)0])
    TC_SLURM_KILL_STEP([3], [&(slurm_step_id_t){ .job_id = 1 }, (uint16_t)9, (uint16_t)0])
    AC_MSG_RESULT([form $slurm_kill_step])
    AS_IF([test "x$slurm_kill_step" = xnone], [
      AS_IF([test "x$with_slurm" = xyes], [AC_MSG_ERROR([this release of Slurm is not known: --without-slurm leaves the plug-in out])])
      AC_MSG_WARN([this release of Slurm is not known; the plug-in is left out])
      have_slurm=no], [
      AC_DEFINE_UNQUOTED([SLURM_KILL_STEP], [$slurm_kill_step], [which form of slurm_kill_job_step Slurm has])])])
  AM_CONDITIONAL([HAVE_SLURM], [test "x$have_slurm" = xyes])
])
