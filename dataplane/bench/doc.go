// Package bench measures the data plane's whole paths: from a client's socket
// through the router and a worker to a PostgreSQL that keeps what it acknowledged,
// beside the least that the same work takes without CareSphere, in one run.
//
// It owns no code of the product. Its figures are rates on the machine of the day;
// what compares across machines is the ratio to the bare twin, which runs in
// alternating slices of time with what it is compared to. docs/benchmarks.md says
// what they were and how to repeat them.
package bench
