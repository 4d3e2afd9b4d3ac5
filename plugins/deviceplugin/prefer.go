package deviceplugin

import (
	"cmp"
	"context"
	"maps"
	"slices"

	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"

	"go.patchbay.dev/plugins/sriov"
)

// GetPreferredAllocation proposes devices that no connection holds, all on one NUMA node
// where they fit: that of the devices that must be among them, else the one with the
// fewest left over.
func (s *server) GetPreferredAllocation(_ context.Context, in *api.PreferredAllocationRequest) (*api.PreferredAllocationResponse, error) {
	known := map[string]sriov.Device{}
	for _, d := range s.devices() {
		known[d.ID] = d
	}
	out := &api.PreferredAllocationResponse{}
	for _, c := range in.ContainerRequests {
		out.ContainerResponses = append(out.ContainerResponses, &api.ContainerPreferredAllocationResponse{
			DeviceIDs: preferred(known, c.AvailableDeviceIDs, c.MustIncludeDeviceIDs, int(c.AllocationSize)),
		})
	}
	return out, nil
}

// preferred chooses n of the available devices, among them those that must be.
func preferred(known map[string]sriov.Device, available, must []string, n int) []string {
	rest := slices.DeleteFunc(slices.Clone(available), func(id string) bool {
		_, ok := known[id]
		return !ok || slices.Contains(must, id)
	})
	missing := n - len(must)
	if missing <= 0 {
		return slices.Clone(must)
	}
	node := bestNode(known, rest, must, missing)
	slices.SortFunc(rest, func(a, b string) int {
		da, db := known[a], known[b]
		return cmp.Or(
			trueLast(da.Owner != "", db.Owner != ""),
			trueLast(da.NUMA != node, db.NUMA != node),
			cmp.Compare(da.NUMA, db.NUMA), cmp.Compare(a, b))
	})
	return append(slices.Clone(must), rest[:min(missing, len(rest))]...)
}

// bestNode is the NUMA node to take missing devices from.
func bestNode(known map[string]sriov.Device, rest, must []string, missing int) int {
	if len(must) > 0 {
		return known[must[0]].NUMA
	}
	free := map[int]int{}
	for _, id := range rest {
		if d := known[id]; d.Owner == "" {
			free[d.NUMA]++
		}
	}
	nodes := slices.Sorted(maps.Keys(free))
	slices.SortStableFunc(nodes, func(a, b int) int {
		fewA, fewB := free[a] < missing, free[b] < missing
		if fewA && fewB {
			return cmp.Compare(free[b], free[a]) // most of them together
		}
		return cmp.Or(trueLast(fewA, fewB), cmp.Compare(free[a], free[b]))
	})
	if len(nodes) == 0 {
		return -1
	}
	return nodes[0]
}

func trueLast(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
