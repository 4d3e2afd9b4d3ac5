package main

import "testing"

func TestThePoolsTokenIsInTheEnvironment(t *testing.T) {
	environ := []string{"PATH=/bin", "NSM_SRIOV_TOKENS_example.com/radio2=sriov-3", "NSM_SRIOV_TOKENS_example.com/radio=sriov-1,sriov-2"}
	for pool, want := range map[string]string{"example.com/radio": "sriov-1", "example.com/radio2": "sriov-3", "example.com/rad": "", "": ""} {
		if got := tokenOf(pool, environ); got != want {
			t.Errorf("%q: %q, want %q", pool, got, want)
		}
	}
}
