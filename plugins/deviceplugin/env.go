package deviceplugin

import "strings"

// tokensPrefix begins the variable that Network Service Mesh's clients read their tokens
// from (sdk-sriov, pkg/tools/tokens): the resource's name follows, tokens are separated by
// commas.
const tokensPrefix = "NSM_SRIOV_TOKENS_"

// environment is what a container learns of its devices of a pool: a variable for each,
// like radio_0000_3b_02_1 for the one at 0000:3b:02.1 of sriov.patchbay.dev/radio, and one
// for all as Network Service Mesh has it; a second by the pool's capability, since there a
// resource is named by that.
func environment(pool, capability string, ids, tokens []string) map[string]string {
	domain, name, _ := strings.Cut(pool, "/")
	all := strings.Join(tokens, ",")
	env := map[string]string{tokensPrefix + pool: all}
	if capability != "" {
		env[tokensPrefix+domain+"/"+capability] = all
	}
	for i, id := range ids {
		env[identifier(name+"_"+id)] = tokens[i]
	}
	return env
}

// identifier makes a name that shells take for a variable's.
func identifier(s string) string {
	if s[0] >= '0' && s[0] <= '9' {
		s = "_" + s
	}
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, s)
}
