// Package tenantdb holds what the provisioner and the workers must agree on to
// reach one tenant's schema: the signed context of a request, and the credential
// that a worker logs in with as the tenant's own role.
//
// It trusts the KMS to give the data key of a tenant to nobody else, and the
// actor that the session gate established. It opens no tenant transaction, and it
// never lets a private key or a context key be printed, logged or marshalled.
package tenantdb
