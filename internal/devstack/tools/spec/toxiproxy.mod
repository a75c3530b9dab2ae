module caresphere.dev/tools/toxiproxy
go 1.26
require github.com/Shopify/toxiproxy/v2 v2.5.0
