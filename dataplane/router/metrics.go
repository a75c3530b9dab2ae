package router

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caresphere/caresphere/internal/obs"
)

type metrics struct {
	retries   *prometheus.CounterVec
	ejections *prometheus.CounterVec
	full      *prometheus.CounterVec
	healthy   *prometheus.GaugeVec
}

func newMetrics(o *obs.Obs, version func() float64) *metrics {
	m := &metrics{
		retries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caresphere_router_retries_total", Help: "Requests sent to a second worker, by reason.",
		}, []string{"reason"}),
		ejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caresphere_router_ejections_total", Help: "Workers left aside after failures in a row.",
		}, []string{"worker"}),
		full: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "caresphere_router_full_total", Help: "Requests for which a worker had no place: too many were under way.",
		}, []string{"worker"}),
		healthy: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "caresphere_router_worker_healthy", Help: "1 if the worker passes its health checks.",
		}, []string{"worker"}),
	}
	if o != nil {
		o.Metrics.MustRegister(m.retries, m.ejections, m.full, m.healthy, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "caresphere_router_route_table_version", Help: "Version of the route table in use.",
		}, version))
	}
	return m
}

func gauge(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
