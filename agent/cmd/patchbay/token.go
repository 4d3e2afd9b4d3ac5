package main

import "strings"

// tokensPrefix begins the variables by which plugins/deviceplugin hands tokens to
// containers, as Network Service Mesh does.
const tokensPrefix = "NSM_SRIOV_TOKENS_"

// tokenOf is the first token that a container's environment has for a pool; empty: none.
func tokenOf(pool string, environ []string) string {
	for _, v := range environ {
		if tokens, ok := strings.CutPrefix(v, tokensPrefix+pool+"="); ok {
			first, _, _ := strings.Cut(tokens, ",")
			return first
		}
	}
	return ""
}
