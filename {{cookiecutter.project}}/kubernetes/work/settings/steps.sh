# shellcheck shell=dash
# Steps that the manifests of kubernetes/work share. They run with `set -eu`.

# Goes into the folder `project`, which is the repository at REVISION. A container that starts again goes on with what
# it has.
checkout() {
  local commit name
  if [ ! -d project ]; then
    rm -rf project.new
    git clone --quiet --no-checkout "$REPOSITORY" project.new
    for name in "origin/$REVISION" "$REVISION"; do
      commit=$(git -C project.new rev-parse --quiet --verify "$name^{commit}") && break
    done
    if [ -z "$commit" ]; then
      echo "error: REVISION: $REPOSITORY has no branch, tag or commit $REVISION: change kubernetes/work/settings/work.env" >&2
      return 1
    fi
    git -C project.new checkout --quiet --detach "$commit"
    git -C project.new tag work/start # a container that starts again may have committed already
    mv project.new project
  fi
  cd project || return
  git log -1 --format='commit %h: %s'
}

# Prepares the data, and takes the folder `sweeps` from the volume that pods share: studies, and the locks of workers.
share_sweeps() {
  dvc pull --run-cache --allow-missing prepare # what was never pushed is computed
  dvc repro prepare
  mkdir -p /shared/sweeps
  ln -sfn /shared/sweeps sweeps
  echo /sweeps >>.git/info/exclude
}

# publish NAME: brings back what has changed, data by DVC's remote, then the branch work/NAME-COMMIT of the
# repository.
publish() {
  local commit branch
  commit=$(git rev-parse --short=12 work/start)
  branch=work/$1-$commit
  git add --all
  git diff --cached --quiet || git commit --quiet --no-verify --message "Results of $commit on the cluster: $1"
  if git diff --quiet work/start; then
    echo "nothing changed: the results are those of $commit"
    return
  fi
  dvc push --run-cache # before the branch: nobody gets it without its data
  git push --quiet --force origin "HEAD:refs/heads/$branch"
  echo "$branch is on $REPOSITORY, not yet merged"
}
