package models

import (
	"errors"
	"fmt"
)

// MaxLabels bounds the labels of a durable request.
const MaxLabels = 64

// ValidateConnection checks a durable request as far as that is possible without looking
// at the node; the mechanism's parameters are checked by the mechanism. All errors found
// are joined, each a *FieldError.
func ValidateConnection(c *Connection) error {
	var errs []error
	if !ValidName(c.GetId()) {
		errs = append(errs, bad("id", "%q must be 1–63 of a-z 0-9 - . and start with a letter or digit", c.GetId()))
	}
	if n := c.GetNetworkService(); n == "" || len(n) > maxNSMName {
		errs = append(errs, bad("networkService", "%q must be 1–%d characters; name the network service", n, maxNSMName))
	}
	if len(c.GetEndpoint()) > maxNSMName {
		errs = append(errs, bad("endpoint", "must be at most %d characters", maxNSMName))
	}
	if p := c.GetPayload(); p != "" && p != Ethernet && p != IP {
		errs = append(errs, bad("payload", "%q is not known; use ETHERNET or IP", p))
	}
	if n := len(c.GetLabels()); n > MaxLabels {
		errs = append(errs, bad("labels", "has %d entries; at most %d", n, MaxLabels))
	}
	for k := range c.GetLabels() {
		if k == "" {
			errs = append(errs, bad("labels", "has a label without a name"))
		}
	}
	if c.GetMechanism().GetType() == "" {
		errs = append(errs, bad("mechanism.type", "is missing; name the mechanism, for instance KERNEL"))
	}
	errs = append(errs, validateMTU(&CrossConnect{Mtu: c.GetMtu(), Client: &Attachment{Addresses: c.GetAddresses()}}))
	if n := len(c.GetAddresses()); n > MaxListLength {
		return errors.Join(append(errs, bad("addresses", "has %d entries; at most %d", n, MaxListLength))...)
	}
	for i, s := range c.GetAddresses() {
		if err := validateAddress(fmt.Sprintf("addresses[%d]", i), s); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
