// Package deploytest holds what is shipped for those who run Causeway (deploy/)
// against what would read it: a real NATS server, systemd, Prometheus' own tool,
// and the names of what the programs export. The Helm chart and the compose file
// have a module of their own, deploy/check.
package deploytest
