#include "search/validate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "base/error.h"
#include "search/training_rules.h"
#include "sim/collective_price.h"
#include "sim/network.h"
#include "topologies/cluster_file.h"

namespace foretrain::search {
namespace {

using reports::ValidationRow;

ValidationRow row(double predicted, double measured) {
  ValidationRow r;
  r.predicted = predicted;
  r.measured = measured;
  return r;
}

// Errors -0.5, -0.1, +0.1, +0.2, +1.0: absolute 0.1 0.1 0.2 0.5 1.0.
TEST(Validation, Summary) {
  const std::vector<ValidationRow> rows{row(1, 2), row(0.9, 1), row(1.1, 1), row(1.2, 1), row(2, 1)};
  ValidationRow skipped;
  skipped.skipped = "no time";
  std::vector<const ValidationRow*> all{&skipped};
  EXPECT_FALSE(reports::summarise(all).median_abs_error.has_value());
  for (const ValidationRow& r : rows) {
    all.push_back(&r);
  }
  const reports::ValidationSummary s = reports::summarise(all);
  EXPECT_EQ(s.rows, 6);
  EXPECT_EQ(s.used, 5);
  EXPECT_EQ(s.skipped, 1);
  EXPECT_NEAR(*s.median_abs_error, 0.2, 1e-12);
  EXPECT_NEAR(*s.p90_abs_error, 1.0, 1e-12);  // the 5th of 5: 4.5 rounded up
  EXPECT_NEAR(*s.bias, 0.1, 1e-12);
  EXPECT_EQ(reports::median({3, 1}), 2);
}

topologies::NetworkEnvironment plain() {
  topologies::NetworkEnvironment e;
  e.generation = topologies::GpuGeneration::ampere;
  e.node_rate = Bandwidth{240e9};
  e.fabric_rate = Bandwidth{25e9};
  return e;
}

// 8 A100 on one node, NCCL's constants alone: ring LL 6.6 + 14 x 0.6 = 15 us, tree LL 6.8 + 2 x 7 x 0.6 = 15.2 us.
// Large: 8.4 + 14 x 3.4 = 56 us and 240 x 8/14 GB/s.
TEST(CollectivePricer, OneNode) {
  const auto& nccl = topologies::newest_nccl();
  const topologies::NetworkEnvironment e = plain();
  const sim::CollectivePricer pricer(e, nccl, nccl);
  const sim::PriceRequest r{sim::collective::Kind::all_reduce, false, {8, 1, 8}};
  EXPECT_NEAR(pricer.price(r, 0, {}).seconds, 15e-6, 1e-12);
  EXPECT_TRUE(pricer.price(r, 0, {}).small);
  EXPECT_NEAR(pricer.price(r, 8e9, {}).seconds, 56e-6 + 8e9 / (240e9 * 8 / 14), 1e-9);
  topologies::CollectiveConstants c;
  c.efficiency = 0.5;
  c.latency = 2;
  c.ramp = 2;
  EXPECT_NEAR(pricer.price(r, 8e9, c).seconds, std::hypot(112e-6, 8e9 / (120e9 * 8 / 14)), 1e-9);
}

// 2 nodes of 8: all_to_all leaves through each rank's adapter, 8 of 16 parts; a message takes one adapter.
TEST(CollectivePricer, OverTheFabric) {
  const auto& nccl = topologies::newest_nccl();
  const topologies::NetworkEnvironment e = plain();
  const sim::CollectivePricer pricer(e, nccl, nccl);
  EXPECT_NEAR(pricer.price({sim::collective::Kind::all_to_all, false, {16, 2, 8}}, 16e9, {}).seconds,
              8e9 / 25e9 + (7 * 3.4 + 8 * 14) * 1e-6, 1e-9);
  EXPECT_NEAR(pricer.price({{}, true, {2, 2, 1}}, 1e9, {}).seconds, 1e9 / 25e9 + 22.4e-6, 1e-9);
  // all_gather: rings over 8 adapters, 200 GB/s, no more than 0.9 of 240; 15 hops of the fabric in lock step.
  EXPECT_NEAR(pricer.price({sim::collective::Kind::all_gather, false, {16, 2, 8}}, 15e9, {}).seconds,
              15e9 / (200e9 * 16 / 15) + (8.4 + 15 * 14) * 1e-6, 1e-9);
}

// 8 nodes of 4 A100, 1 MiB: NCCL takes a tree, LL128. 3 levels: 8.4 + 2 x (3 x 4 + 3 x 14) = 116.4 us; 92 % of 100
// GB/s, halved; and the MiB handed on three times over 4 adapters. 16 MiB more is handed on no longer: 8 MiB beyond 16
// MiB take what the tree carries alone.
TEST(CollectivePricer, TreesHandOn) {
  const auto& nccl = topologies::newest_nccl();
  const topologies::NetworkEnvironment e = plain();
  const sim::CollectivePricer pricer(e, nccl, nccl);
  const sim::PriceRequest r{sim::collective::Kind::all_reduce, false, {32, 8, 4}};
  const sim::CollectivePrice mib = pricer.price(r, 1 << 20, {});
  EXPECT_FALSE(mib.small);
  EXPECT_TRUE(mib.tree);
  EXPECT_NEAR(mib.seconds, 116.4e-6 + (1 << 20) / 46e9 + 3 * (1 << 20) / 100e9, 1e-9);
  const auto more = [&](int mebibytes) {
    return pricer.price({r.kind, false, {2048, 512, 4}}, mebibytes * 1048576.0, {});
  };
  EXPECT_TRUE(more(24).tree);
  EXPECT_NEAR(more(24).seconds - more(16).seconds, (8 << 20) / 46e9, 1e-9);
  // LL hands on 128 KiB: 16 B take h = 3 times what they take on a ring, half of 100 x 32/62 GB/s by default.
  EXPECT_TRUE(pricer.price(r, 16, {}).small);
  EXPECT_NEAR(pricer.price(r, 16, {}).seconds - pricer.price(r, 0, {}).seconds, 3 * 16 / (50e9 * 32 / 62), 1e-15);
}

// More bytes never take less time, but where NCCL takes another protocol or algorithm for them.
TEST(CollectivePricer, GrowsWithBytes) {
  const auto& nccl = topologies::newest_nccl();
  for (const auto& e : topologies::network_environments()) {
    const sim::CollectivePricer pricer(e, nccl, nccl);
    for (const auto* table : {&e.node, &e.fabric}) {
      for (const auto& [word, constants] : *table) {
        sim::PriceRequest r;
        r.sendrecv = word == "sendrecv";
        r.kind = r.sendrecv ? sim::collective::Kind::all_reduce : sim::collective::kind_from_name(word);
        r.group = table == &e.node ? sim::nccl::Group{8, 1, 8} : sim::nccl::Group{64, 8, 8};
        sim::CollectivePrice before;
        for (double bytes = 0; bytes < 1e12; bytes = bytes * 2 + 1) {
          const sim::CollectivePrice p = pricer.price(r, bytes, constants);
          ASSERT_TRUE(std::isfinite(p.seconds) && p.seconds > 0) << e.name << " " << word << " " << bytes;
          const bool same_way = p.small == before.small && p.tree == before.tree;
          if (same_way || r.sendrecv || r.kind != sim::collective::Kind::all_reduce) {
            EXPECT_GE(p.seconds, before.seconds) << e.name << " " << word << " " << bytes;
          }
          before = p;
        }
      }
    }
  }
}

TEST(NetworkEnvironment, FirstPatternThatMatchesWins) {
  const auto& all = topologies::network_environments();
  const auto name = [&all](const std::string& table) {
    const auto* e = topologies::environment_of(all, table);
    return e == nullptr ? "" : e->name;
  };
  EXPECT_EQ(name("polaris-nccl_2_18-n8-all_reduce-env1"), "polaris-env1");
  EXPECT_EQ(name("vultr-b200-a2a16-v2"), "vultr-b200-tuned");
  EXPECT_EQ(name("vultr-b200-a2a16"), "vultr-b200");
  EXPECT_EQ(name("stas-h200-g4-ring"), "stas-h200-ring");
  EXPECT_EQ(name("stas-h200-g4-nvls"), "stas-h200");
  EXPECT_EQ(name("nowhere"), "");
}

// The catalogue's, or the one of a row whose runs' own machine was measured.
topologies::Cluster system_of_jobs(const std::string& name) {
  for (const DeviceRule& rule : load_training_rules("").devices) {
    if (rule.cluster.name == name) {
      return rule.cluster;
    }
  }
  return topologies::load_system(name);
}

// `validate`, `estimate` and `explain collective` say the same of a system whose environments were measured. NCCL's
// version is a table's own and a job's newest: with others the version counts, for all_reduce over nodes.
TEST(SystemPricer, JobsArePricedAsValidated) {
  const auto& environments = topologies::network_environments();
  const auto& newest = topologies::newest_nccl();
  int checked = 0;
  for (const auto side :
       {&topologies::NetworkEnvironment::node_systems, &topologies::NetworkEnvironment::fabric_systems}) {
    const bool inside = side == &topologies::NetworkEnvironment::node_systems;
    std::set<std::pair<std::string, std::string>> seen;  // of a system's environments the first counts
    for (const auto& e : environments) {
      for (const std::string& system : e.*side) {
        const topologies::Cluster cluster = system_of_jobs(system);
        const auto model = sim::make_alpha_beta(cluster);
        const sim::CollectivePricer pricer(e, newest, newest);
        for (const auto& [word, constants] : inside ? e.node : e.fabric) {
          if (!seen.emplace(system, word).second) {
            continue;
          }
          const bool two = word == "all_reduce" && !constants.tree_efficiency;
          const sim::GroupPlacement g = inside ? sim::GroupPlacement{4, 1, 4}
                                        : two  ? sim::GroupPlacement{16, 2, 8}
                                               : sim::GroupPlacement{32, 8, 4};
          for (const std::int64_t bytes :
               {std::int64_t{0}, std::int64_t{8}, std::int64_t{1} << 20, std::int64_t{1} << 30}) {
            ++checked;
            if (word == "sendrecv") {
              const sim::nccl::Group pair{2, inside ? 1 : 2, inside ? 2 : 1};
              const double seconds = pricer.price({{}, true, pair}, static_cast<double>(bytes), constants).seconds;
              EXPECT_DOUBLE_EQ(model->message(Bytes{bytes}, inside), seconds) << system << " " << bytes;
              continue;
            }
            const auto kind = sim::collective::kind_from_name(word);
            const double seconds =
                pricer.price({kind, false, {g.ranks, g.nodes, g.per_node}}, static_cast<double>(bytes), constants)
                    .seconds;
            for (const sim::CollectiveCandidate& c : model->candidates(kind, Bytes{bytes}, g)) {
              if (c.chosen) {
                EXPECT_DOUBLE_EQ(c.seconds, seconds) << system << " " << word << " " << bytes;
              }
            }
          }
        }
      }
    }
  }
  EXPECT_GT(checked, 100);
}

// A link twice as fast as the catalogue's halves what a large all_gather takes of it.
TEST(SystemPricer, TheClustersLinksCount) {
  const topologies::Cluster system = topologies::load_system("dgx-h100");
  topologies::Cluster faster = system;
  faster.intra.bandwidth.value *= 2;
  faster.inter.bandwidth.value *= 2;
  for (const sim::GroupPlacement& g : {sim::GroupPlacement{8, 1, 8}, {10, 10, 1}}) {
    const double once = sim::make_alpha_beta(system)->collective(plan::CollectiveKind::all_gather, Bytes{1 << 30}, g);
    const double twice = sim::make_alpha_beta(faster)->collective(plan::CollectiveKind::all_gather, Bytes{1 << 30}, g);
    EXPECT_NEAR(twice / once, 0.5, 0.03) << g.nodes;
  }
}

// Guards what was reached when the constants were fitted (docs/models.md).
TEST(Published, NcclTests) {
  const reports::Validation v = validate({"reports/validation/nccl_tests.jsonl"});
  EXPECT_EQ(v.rows.size(), 2540U);
  for (const reports::SizeBand& band : reports::size_bands()) {
    std::vector<double> errors;
    for (const ValidationRow& r : v.rows) {
      if (!r.skipped && r.fitted && r.bytes >= band.from && r.bytes < band.below) {
        errors.push_back(std::abs(r.error()));
      }
    }
    ASSERT_FALSE(errors.empty()) << band.name;
    EXPECT_LT(reports::median(errors), band.good) << band.name;
  }
  EXPECT_THROW(validate({"reports/validation/nowhere.jsonl"}), InputError);
}

}  // namespace
}  // namespace foretrain::search
