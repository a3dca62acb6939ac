#!/usr/bin/env bash
# On the lent machine: teacher, hidden-384 student, TinyBERT6L, one after the other; each leaves a folder in OUT.
# usage: lease.sh DATA OUT TEACHER_MIN H384_MIN TINY_MIN [options of the students' `train`, as --set KEY=VALUE]
# What takes 0 minutes is left out; without a teacher of this OUT, TEACHER=FOLDER says where one is. It goes on where it
# was stopped, if it is run again. With REHEARSE=1, all of it in a few minutes on a CPU: lease.sh DATA OUT 0.3 0.6 0.6
# Figures are of 1,000 questions of confirm: the whole of confirm and dev are measured at home.
set -euo pipefail
data=$1 out=$2 teacher=$3 h384=$4 tiny=$5
shift 5
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH=$root/src${PYTHONPATH:+:$PYTHONPATH} HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
cd "$root"
common=(--resume --set "data.train=$data/train-v1.1.json.gz" --set data.report_limit=1000)
few=()
if [[ -n ${REHEARSE:-} ]]; then
  common+=(--set data.limit=24 --set data.report_limit=10 --set data.max_seq_len=192 --set data.doc_stride=32)
  common+=(--set stages.0.select_questions=5 --set stages.0.batch_size=4)
  few=(--set stages.1.select_questions=5 --set stages.1.batch_size=4)
fi
share() { python3 -c 'import sys; print(round(float(sys.argv[1]) * float(sys.argv[2]), 3))' "$1" "$2"; }

if [[ $teacher != 0 ]]; then
  python3 -m dynamic_tinybert train recipes/mpnet-teacher.yaml --output "$out/teacher" "${common[@]}" \
    --set "stages.teacher.model=$data/all-mpnet-base-v2" --set "stages.teacher.minutes=$teacher"
fi
student() { # NAME RECIPE MINUTES OPTIONS: a third of the minutes for the intermediate stage
  [[ $3 == 0 ]] && return
  python3 -m dynamic_tinybert train "$2" --output "$out/$1" "${common[@]}" "${few[@]}" \
    --set "teacher=${TEACHER:-$out/teacher/model}" --set "stages.intermediate.minutes=$(share "$3" 0.33)" \
    --set "stages.lengthdrop.minutes=$(share "$3" 0.67)" "${@:4}"
}
student h384 recipes/h384.yaml "$h384" --set "student.checkpoint=$data/all-MiniLM-L6-v2" "$@"
student tiny recipes/tinybert6l.yaml "$tiny" "$@"
echo "all done"
