# From a bare Debian 12 host to a release that serves, as deploy/ansible does it: the same files, byte for byte. For
# Puppet 7 and 8, without modules. apply.sh copies what is described to a host, and applies this there.

$deploy = "${facts['model_project']}/deploy"
$delivery = "${facts['model_project']}/delivery"
$monitoring = "${facts['model_project']}/monitoring"
$release = lookup('spec')['release']
$groups = lookup('all')['children']
$balancer = $facts['model_host'] in $groups['balancer']['hosts']
$server = $facts['model_host'] in $groups['servers']['hosts']
$addresses = ['balancer', 'servers'].map |String $group| {
  $each = $groups[$group]['hosts'].map |String $name, Hash $host| { $host['address'] }
  "define ${group.upcase} = { ${$each.join(', ')} }\n"
}
# Hiera gives values; these are whole files, in their own order.
$read = "<%= require 'json'; require 'yaml'; JSON.generate(YAML.load_file"

Exec { path => ['/usr/sbin', '/usr/bin', '/sbin', '/bin'] }
File { owner => 'root', group => 'root', mode => '0644' }
Package { ensure => installed, install_options => ['--no-install-recommends'] }
Service { ensure => running, enable => true }

# A package index is asked only for what is not there yet: a deployment needs none.
$packages = ['ca-certificates', 'chrony', 'nftables', 'python3']
$packages_of_balancer = $balancer ? { true => ['haproxy', 'prometheus', 'prometheus-alertmanager'], default => [] }
$packages_of_server = $server ? { true => ['podman'], default => [] }
$wanted = $packages + $packages_of_balancer + $packages_of_server
exec { 'apt-get update --quiet':
  unless => "dpkg-query --show ${wanted.join(' ')}",
}
package { $wanted: }

group { 'model':
  gid    => 10001,
  system => true,
}
user { 'model':
  uid        => 10001,
  gid        => 'model',
  system     => true,
  home       => '/srv/model',
  managehome => false,
  shell      => '/usr/sbin/nologin',
}

file { ['/etc/model', '/usr/local/lib/model', '/etc/systemd/journald.conf.d']:
  ensure => directory,
  mode   => '0755',
}
file { '/etc/model/secrets': # and what is in it; folders may be searched by whom they may be read
  ensure       => directory,
  source       => ["${deploy}/secrets/balancer", "${deploy}/secrets/servers"],
  sourceselect => all,
  recurse      => remote,
  group        => 'model',
  mode         => '0640',
  show_diff    => false,
}
['release', 'hosts'].each |String $name| {
  file { "/etc/model/${name}.json":
    content => inline_template("${read}('${deploy}/${name}.yaml')) %>\n"),
  }
}
file { '/etc/model/addresses.nft':
  content => $addresses.join,
}
file { '/etc/nftables.conf':
  source       => "${deploy}/hosts/nftables.conf",
  mode         => '0755',
  validate_cmd => '/usr/sbin/nft --check --file %',
}
file { '/etc/systemd/journald.conf.d/model.conf':
  source => "${deploy}/hosts/journald.conf",
}
['layout', 'host'].each |String $name| {
  file { "/usr/local/lib/model/${name}.py":
    source => "${delivery}/${name}.py",
    mode   => '0755',
  }
}
service { 'nftables':
  restart   => 'nft --file /etc/nftables.conf',
  subscribe => File['/etc/model/addresses.nft', '/etc/nftables.conf'],
}
service { 'chrony': }
service { 'systemd-journald':
  enable    => undef,
  subscribe => File['/etc/systemd/journald.conf.d/model.conf'],
}

if $balancer {
  user { 'prometheus':
    groups     => ['model'],
    membership => minimum,
    notify     => Service['prometheus'],
  }
  file { ['/var/lib/model', '/etc/prometheus/model']:
    ensure => directory,
    mode   => '0755',
  }
  file { '/etc/systemd/system/model-rollout@.service':
    source => "${deploy}/hosts/model-rollout@.service",
    notify => Exec['read units again'],
  }
  file { '/etc/haproxy/haproxy.cfg':
    source => "${deploy}/hosts/haproxy.cfg",
    notify => Service['haproxy'],
  }
  file { '/etc/default/haproxy':
    source => "${deploy}/hosts/haproxy.default",
    notify => Exec['restart haproxy'],
  }
  ['prometheus', 'prometheus-alertmanager'].each |String $name| {
    file { "/etc/default/${name}":
      source => "${deploy}/hosts/${name}.default",
      notify => Service[$name],
    }
  }
  file { '/etc/prometheus/model/rules.yml':
    source       => "${monitoring}/rules.yml",
    validate_cmd => '/usr/bin/promtool check rules %',
    notify       => Service['prometheus'],
  }
  file { '/etc/prometheus/model/gates.yml':
    content      => inline_template("${read}('${deploy}/gates.yaml')['spec']) %>\n"),
    validate_cmd => '/usr/bin/promtool check rules %',
    notify       => Service['prometheus'],
  }
  file { '/etc/prometheus/prometheus.yml':
    source       => "${deploy}/hosts/prometheus.yml",
    validate_cmd => '/usr/bin/promtool check config %',
    notify       => Service['prometheus'],
  }
  file { '/etc/prometheus/alertmanager.yml':
    source => "${monitoring}/alertmanager.yml",
    notify => Service['prometheus-alertmanager'],
  }
  ['peers', 'rollout'].each |String $name| {
    file { "/usr/local/lib/model/${name}.py":
      source => "${delivery}/${name}.py",
      mode   => '0755',
    }
  }
}
if $server {
  file { '/srv/model':
    ensure => directory,
    owner  => 'model',
    group  => 'model',
    mode   => '0750',
  }
  file { '/etc/model/service.env':
    source => "${deploy}/service.env",
  }
  file { '/usr/local/lib/model/container':
    source => "${deploy}/hosts/container",
    mode   => '0755',
  }
  file { '/etc/systemd/system/model@.service':
    source => "${deploy}/hosts/model@.service",
    notify => Exec['read units again'],
  }
}
exec { 'read units again':
  command     => 'systemctl daemon-reload',
  refreshonly => true,
}

if $balancer {
  exec { '/usr/local/lib/model/host.py configure':
    unless => '/usr/local/lib/model/host.py configure --check',
    notify => Service['haproxy'],
  }
  exec { 'restart haproxy':
    command     => 'sh -c "haproxy -c -f /etc/haproxy && systemctl restart haproxy"',
    refreshonly => true,
  }
  service { 'haproxy':
    restart   => 'haproxy -c -f /etc/haproxy && systemctl reload haproxy', # systemd does not tell its reason
    subscribe => File['/etc/model/secrets'],
  }
  # Restarted, not reloaded: the signal ends them if they have just started.
  service { ['prometheus', 'prometheus-alertmanager']: }
}
if $server {
  exec { '/usr/local/lib/model/host.py prepare':
    unless  => '/usr/local/lib/model/host.py prepare --check',
    timeout => 900,
  }
}
# It waits for the servers. `make deploy` follows it to its end.
if $balancer {
  exec { "systemctl start model-rollout@${release}.service":
    unless => "/usr/local/lib/model/rollout.py run ${release} --check",
  }
}
