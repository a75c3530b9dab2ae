// Package e2e tests the whole platform from outside: the built programs, real
// PostgreSQL and Kratos, and where a test says so Vault, S3 and stripe-mock.
//
// It owns no code of the product. Its tests act as customers, operators and
// attackers do, through the public interfaces; they look behind them, as the
// database's superuser or with a program's certificate, only to plant a fault or
// to show that each layer holds by itself. A tenant that a test harms is its own.
package e2e
