#include "workloads/model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ostream>

#include "base/catalogue.h"
#include "base/json.h"
#include "workloads/model_file.h"

namespace foretrain::workloads {
namespace {

Model catalogue_model(const std::string& name) {
  return load_model(catalogue_path(kModelFolder, "model", name));
}

struct Published {
  const char* name;
  std::int64_t parameters;
  friend std::ostream& operator<<(std::ostream& out, const Published& p) { return out << p.name; }
};

class PublishedTotals : public testing::TestWithParam<Published> {};

TEST_P(PublishedTotals, AreExact) {
  EXPECT_EQ(total_parameters(catalogue_model(GetParam().name)), GetParam().parameters);
}

// gpt2 and llama: parameters of the released checkpoints, as the transformers library counts them (tied weights once).
// gpt3: V·h + P·h + l·(12h² + 13h) + 2h = 50257·12288 + 2048·12288 + 96·(12·12288² + 13·12288) + 24576
//       = 617558016 + 25165824 + 96·1812099072 + 24576.
// megatron: the same with V = 51200.
// bert: tables and their norm (V + P + 2 + 2)·h; a layer 4(h² + h) + 2·4h² + 5h + 4h = 12h² + 13h; head h² + 3h + V:
//   base  (30522 + 516)·768 + 12·(12·768² + 13·768) + 768² + 3·768 + 30522
//         = 23837184 + 12·7087872 + 622650, the transformers library's BertForMaskedLM. BertModel has no head but a
//         pooler of h² + h = 590592: 109482240; BertForPreTraining both and 2h + 2: 110106428.
//   large (30522 + 516)·1024 + 24·(12·1024² + 13·1024) + 1024² + 3·1024 + 30522
//         = 31782912 + 24·12596224 + 1082170; BertModel 335141888, BertForPreTraining 336226108.
INSTANTIATE_TEST_SUITE_P(
    Catalogue, PublishedTotals,
    testing::Values(Published{"gpt2-124m", 124'439'808}, Published{"gpt2-350m", 354'823'168},
                    Published{"gpt2-774m", 774'030'080}, Published{"gpt2-1.5b", 1'557'611'200},
                    Published{"gpt3-175b", 617'558'016 + 25'165'824 + 96 * 1'812'099'072LL + 24'576},
                    Published{"llama2-7b", 6'738'415'616}, Published{"llama2-13b", 13'015'864'320},
                    Published{"llama2-70b", 68'976'648'192}, Published{"llama3-8b", 8'030'261'248},
                    Published{"llama3-70b", 70'553'706'496}, Published{"llama3.1-8b", 8'030'261'248},
                    Published{"llama3.1-70b", 70'553'706'496}, Published{"llama3.1-405b", 405'853'388'800},
                    Published{"llama3.2-1b", 1'235'814'400}, Published{"llama3.2-3b", 3'212'749'824},
                    Published{"gpt-neox-20b", 20'554'567'680}, Published{"pythia-160m", 162'322'944},
                    Published{"pythia-410m", 405'334'016}, Published{"pythia-1.4b", 1'414'647'808},
                    Published{"pythia-6.9b", 6'857'302'016}, Published{"pythia-12b", 11'846'072'320},
                    Published{"qwen2.5-0.5b", 494'032'768}, Published{"qwen2.5-7b", 7'615'616'512},
                    Published{"qwen2.5-72b", 72'706'203'648}, Published{"qwen3-0.6b", 596'049'920},
                    Published{"qwen3-1.7b", 1'720'574'976}, Published{"qwen3-4b", 4'022'468'096},
                    Published{"qwen3-8b", 8'190'735'360}, Published{"qwen3-14b", 14'768'307'200},
                    Published{"qwen3-32b", 32'762'123'264}, Published{"mixtral-8x7b", 46'702'792'704},
                    Published{"mixtral-8x22b", 140'620'634'112}, Published{"mistral-7b", 7'241'732'096},
                    Published{"qwen3-30b-a3b", 30'532'122'624}, Published{"qwen3-235b-a22b", 235'093'634'560},
                    Published{"qwen1.5-moe-a2.7b", 14'315'784'192}, Published{"deepseek-v2-lite", 15'706'484'224},
                    Published{"deepseek-v2", 235'741'434'880}, Published{"deepseek-v3", 671'026'419'200},
                    Published{"bert-base", 23'837'184 + 12 * 7'087'872 + 622'650},
                    Published{"bert-large", 31'782'912 + 24 * 12'596'224 + 1'082'170},
                    Published{"bamba-9b", 9'780'235'392}, Published{"gpt-oss-20b", 20'914'757'184},
                    Published{"gpt-oss-120b", 116'829'156'672}),
    [](const auto& row) {
      std::string name = row.param.name;
      std::replace_if(
          name.begin(), name.end(), [](char c) { return c == '-' || c == '.'; }, '_');
      return name;
    });

// t5: an encoder's layer 4h·d + 2hf + 2h with d = heads·64, a decoder's 4h·d + h more; table V·h, two norms 2h, two
// tables of 32 distances for each head. The transformers library's T5ForConditionalGeneration:
//   small (h 512, d 512, f 2048)   6·3146752 + 6·4195840 + 32128·512 + 1024 + 512
//   base  (h 768, d 768, f 3072)   12·7079424 + 12·9439488 + 32128·768 + 1536 + 768
//   large (h 1024, d 1024, f 4096) 24·12584960 + 24·16780288 + 32128·1024 + 2048 + 1024
TEST(Model, T5Parameters) {
  const auto of = [](const char* name) { return total_parameters(catalogue_model(name)); };
  EXPECT_EQ(of("t5-small"), 60'506'624);
  EXPECT_EQ(of("t5-base"), 222'903'552);
  EXPECT_EQ(of("t5-large"), 737'668'096);
}

// One layer on either side, hidden, width and MLP 4, vocabulary 8. Encoder of 5 tokens: products 5·(2·4·16 + 2·2·16) =
// 960, scores and context 4·5·5·4 = 400; decoder of 3: 576 and 4·3·3·4 = 144; cross attention: q and projection
// 2·4·(2·3·4), kv 2·4·(2·5·4), 512 in all, scores and context 4·3·5·4 = 240; logits 2·3·4·8 = 192.
TEST(Model, EncoderAndDecoderByHand) {
  Model m;
  m.architecture = Architecture::encoder_decoder;
  m.layers = 2;
  m.encoder_layers = 1;
  m.hidden = m.ffn_hidden = 4;
  m.heads = m.kv_heads = m.head_dim = 2;
  m.vocab = 8;
  EXPECT_DOUBLE_EQ(model_flops(m, 2, 5, false, 3), 2 * 3 * (960 + 400 + 576 + 144 + 512 + 240 + 192));
  EXPECT_DOUBLE_EQ(model_flops(m, 1, 5, true, 3), 3 * (960 + 400 + 576 + 72 + 512 + 240 + 192));
}

// The masked-LM head is one product more, 2·s·h·h = 2·5·4·4 = 160 forward; an encoder's attention is not halved:
// 2·s·s·(q + context) = 2·5·5·8 = 400 of one layer. Tables of 2 types and a norm of 2·4 on the embedding; the head's
// product with its bias 16 + 4, and a bias of 8.
TEST(Model, EncoderByHand) {
  Model m;
  m.layers = 1;
  m.hidden = m.ffn_hidden = 4;
  m.heads = m.kv_heads = m.head_dim = 2;
  m.vocab = 8;
  m.positions = Positions::none;
  const double flops = model_flops(m, 1, 5), halved = model_flops(m, 1, 5, /*causal_halved=*/true);
  const std::int64_t parameters = total_parameters(m);
  m.head = Head::masked_lm;
  m.token_types = 2;
  m.embedding_norm = true;
  EXPECT_DOUBLE_EQ(model_flops(m, 1, 5), flops + 3 * 160);
  EXPECT_DOUBLE_EQ(flops - halved, 3 * 0.5 * 400);
  m.architecture = Architecture::encoder;
  EXPECT_DOUBLE_EQ(model_flops(m, 1, 5, /*causal_halved=*/true), model_flops(m, 1, 5));
  EXPECT_EQ(total_parameters(m), parameters + 2 * 4 + 2 * 4 + 20 + 8);
}

// A pooler of 4 x 4 + 4 and 3 classes of 4 + 1 each, in place of the last norm of 2·4 and (tied) no matrix; 2·4·(4 + 3)
// FLOPs forward of the first token in place of 2·5·4·8 of five tokens' logits.
TEST(Model, ClassifierByHand) {
  Model m;
  m.layers = 1;
  m.hidden = m.ffn_hidden = 4;
  m.heads = m.kv_heads = m.head_dim = 2;
  m.vocab = 8;
  m.positions = Positions::none;
  const double flops = model_flops(m, 1, 5);
  const std::int64_t parameters = total_parameters(m);
  m.head = Head::classifier;
  m.classes = 3;
  m.tied_embeddings = false;
  EXPECT_DOUBLE_EQ(model_flops(m, 1, 5), flops + 3 * (56 - 320));
  EXPECT_EQ(total_parameters(m), parameters - 8 + 20 + 15);
}

// Window 2 of 4 tokens shows 1 - (1 - 1/2)^2 = 3/4 of what a causal mask shows; of 3 layers the second sees all. A
// sink for each of 2 heads. h = q = 4 and context 4: 2·4·4·(4 + 4) = 256 FLOPs per layer forward, 3/4 + 1 + 3/4 layers.
TEST(Model, WindowsAndSinksByHand) {
  Model m;
  m.layers = 3;
  m.hidden = m.ffn_hidden = 4;
  m.heads = m.kv_heads = m.head_dim = 2;
  m.vocab = 8;
  m.positions = Positions::none;
  const double full = model_flops(m, 1, 4);
  const std::int64_t parameters = total_parameters(m);
  m.attention_window = m.full_attention_every = 2;
  EXPECT_EQ(m.window(0, 4), 2);
  EXPECT_EQ(m.window(1, 4), 0);
  EXPECT_EQ(m.window(2, 4), 2);
  EXPECT_EQ(m.window(0, 2), 0);
  EXPECT_DOUBLE_EQ(full - model_flops(m, 1, 4), 3 * 0.5 * 256);
  m.full_attention_first = 1;
  EXPECT_EQ(m.window(0, 4), 0);
  EXPECT_EQ(visible_share(0, 4), 1);
  EXPECT_EQ(visible_share(2, 4), 0.75);
  EXPECT_EQ(visible_share(1, 0), 1);
  m.attention_sinks = true;
  EXPECT_EQ(total_parameters(m), parameters + 3 * 2);
}

// One state-space layer and one with attention, h = 4: 2 heads of 3, state 5: x 6, z 6, B and C 5 each, dt 2: 24
// columns in. Convolution of 16 columns with 4 taps and a bias, 3·2 for dt, A and D, norm 6.
TEST(Model, StateSpaceLayersByHand) {
  Model m;
  m.layers = 2;
  m.hidden = m.ffn_hidden = 4;
  m.heads = m.kv_heads = m.head_dim = 2;
  m.vocab = 8;
  m.positions = Positions::none;
  m.attention_bias = m.output_bias = false;
  const std::int64_t attention = 4 * 12 + 4 * 4, mixer = 4 * (24 + 6) + 16 * 5 + 6 + 6;
  const std::int64_t parameters = total_parameters(m);
  const double flops = model_flops(m, 1, 3);
  m.ssm.heads = 2;
  m.ssm.head_dim = 3;
  m.ssm.state = 5;
  m.ssm.attention_layers = {1};
  EXPECT_TRUE(m.ssm.has_layer(0));
  EXPECT_FALSE(m.ssm.has_layer(1));
  EXPECT_EQ(total_parameters(m), parameters - attention + mixer);
  // 3 tokens: projections 2·3·4·(24 + 6), scan 7·3·6·5; instead of 2·3·4·(12 + 4) and 2·3·3·(4 + 4).
  EXPECT_DOUBLE_EQ(model_flops(m, 1, 3), flops + 3 * (720 + 630 - 384 - 144));
}

// 32·4096 embedding rows twice, a final norm, and per layer attention 41943040, norms 8192, router 8·4096 and two
// experts of 3·4096·14336: 2·131072000 + 4096 + 32·(41943040 + 8192 + 32768 + 2·176160768) = 12879925248, the 12.9 B of
// the paper.
TEST(Model, ActiveParametersOfMixtral) {
  EXPECT_EQ(active_parameters(catalogue_model("mixtral-8x7b")), 12'879'925'248);
}

// The paper's table 3 names them 22, 175, 530 and 1000 billion.
TEST(Model, MegatronSizesAreWhatTheirNamesSay) {
  EXPECT_NEAR(static_cast<double>(total_parameters(catalogue_model("megatron-22b"))), 22e9, 0.3e9);
  EXPECT_NEAR(static_cast<double>(total_parameters(catalogue_model("megatron-175b"))), 175e9, 0.5e9);
  EXPECT_NEAR(static_cast<double>(total_parameters(catalogue_model("megatron-530b"))), 530e9, 1e9);
  EXPECT_NEAR(static_cast<double>(total_parameters(catalogue_model("megatron-1t"))), 1008e9, 1e9);
}

Model gated_grouped() {
  Model m;
  m.layers = 3;
  m.hidden = 4;
  m.heads = 2;
  m.kv_heads = 1;
  m.head_dim = 2;
  m.ffn_hidden = 6;
  m.vocab = 10;
  m.activation = Activation::swiglu;
  m.norm = Norm::rmsnorm;
  m.positions = Positions::rotary;
  m.tied_embeddings = false;
  m.attention_bias = m.output_bias = m.mlp_bias = false;
  return m;
}

// h = 4, 2 heads of 2, 1 kv head, f = 6, vocab 10, gated, no biases, rmsnorm:
//   qkv 4·(4 + 2·2) = 32, projection 4·4 = 16, up 4·12 = 48, down 6·4 = 24, norms 2·4 = 8: 128 a layer
//   total 3·128 + embedding 40 + head 40 + final norm 4 = 468
TEST(Model, CountsAGatedGroupedModelByHand) {
  Model m = gated_grouped();
  EXPECT_EQ(layer_parameters(m), 128);
  EXPECT_EQ(total_parameters(m), 468);
  m.tied_embeddings = true;
  EXPECT_EQ(total_parameters(m), 428);
  m.attention_bias = true;  // q, k, v: 4 + 2 + 2
  EXPECT_EQ(layer_parameters(m), 136);
  m.output_bias = true;
  EXPECT_EQ(layer_parameters(m), 140);
  m.mlp_bias = true;  // up 12, down 4
  EXPECT_EQ(layer_parameters(m), 156);
  // Forward of one sequence of s = 5: qkv 2·5·32 = 320, projection 160, MLP 2·5·72 = 720, attention 4·25·4 = 400;
  // 3 layers 4800, logits 2·5·40 = 400; times 3 for forward and backward.
  EXPECT_DOUBLE_EQ(model_flops(m, 1, 5), 3 * (3 * 1600 + 400));
  EXPECT_DOUBLE_EQ(model_flops(m, 2, 5, /*causal_halved=*/true), 2 * 3 * (3 * 1400 + 400));
  EXPECT_DOUBLE_EQ(model_flops(m, 0, 5), 0);
}

// As above with experts in the last two of three layers: 5 of width 6, 2 of which a token passes, and two shared ones
// of width 3. Common 48 + 8 = 56; MLP 72; an expert 3·4·6 = 72, the shared ones 3·4·6 = 72, the router 5·4 and 5
// biases.
TEST(Model, CountsExpertsByHand) {
  Model m = gated_grouped();
  m.tied_embeddings = true;
  m.moe = {.experts = 5,
           .top_k = 2,
           .ffn_hidden = 6,
           .shared_experts = 2,
           .shared_ffn_hidden = 3,
           .expert_bias = true,
           .first_dense_layers = 1};
  EXPECT_EQ(layer_parameters(m), 128);
  EXPECT_EQ(moe_layer_parameters(m), 56 + 5 * 72 + 72 + 25);
  EXPECT_EQ(total_parameters(m), 40 + 128 + 2 * 513 + 4);
  EXPECT_EQ(active_parameters(m), 40 + 128 + 2 * (513 - 3 * 72) + 4);
  // Biases: of an expert 2·6 and 4, of the router 5; the shared experts' gate has 4 weights.
  Model with_biases = m;
  with_biases.moe.bias = with_biases.moe.shared_gate = true;
  EXPECT_EQ(moe_layer_parameters(with_biases), moe_layer_parameters(m) + 5 * 16 + 5 + 4);
  EXPECT_EQ(active_parameters(with_biases), active_parameters(m) + 2 * (2 * 16 + 5 + 4));
  // Forward of 5 tokens: qkv and projection 480, attention 400, MLP 720 once; with experts 2·5·4·(3·(2·6 + 6) + 5) =
  // 2360.
  EXPECT_DOUBLE_EQ(model_flops(m, 1, 5), 3 * (3 * 880 + 720 + 2 * 2360 + 400));
}

// Experts in every second layer from 1 on: 1 and 3 of 5, as `first_dense_layers` 1 has them; from 2 on only 3.
TEST(Model, ExpertsInEverySecondLayer) {
  Model m;
  m.layers = 5;
  m.moe.experts = 2;
  m.moe.every = 2;
  for (const auto& [dense, expected] : {std::pair{0, 2}, {1, 2}, {2, 1}, {4, 0}, {5, 0}}) {
    m.moe.first_dense_layers = dense;
    std::int64_t counted = 0;
    for (std::int64_t layer = 0; layer < m.layers; ++layer) {
      counted += m.has_experts(layer) ? 1 : 0;
    }
    EXPECT_EQ(counted, expected) << dense;
    EXPECT_EQ(m.moe_layers(), expected) << dense;
  }
}

// By hand from the configs. A layer: attention 5120*(40 + 2*8)*128 + 40*128*5120 = 62914560 and two norms 10240; MLP
// 3*5120*16384 = 251658240; an expert, or the shared one, 3*5120*8192 = 125829120, router 5120 for each. Maverick 24
// layers of either kind with 128, Scout 48 with 16; embedding and head 2*202048*5120, the last norm 5120.
TEST(Model, Llama4) {
  const std::int64_t common = 48 * (62'914'560LL + 10'240), ends = 2'068'971'520LL + 5'120;
  EXPECT_EQ(total_parameters(catalogue_model("llama4-maverick")),
            common + 24 * 251'658'240LL + 24 * (129 * 125'829'120LL + 128 * 5'120) + ends);
  EXPECT_EQ(total_parameters(catalogue_model("llama4-maverick")), 400'711'848'960);
  EXPECT_EQ(total_parameters(catalogue_model("llama4-scout")), common + 48 * (17 * 125'829'120LL + 16 * 5'120) + ends);
}

// Korthikanti et al. eq. 9 in its own form: 72·B·s·l·h²·(1 + s/6h + V/12lh).
TEST(Model, FlopsAreMegatronsFormula) {
  for (const char* name : {"megatron-22b", "megatron-175b", "megatron-530b", "megatron-1t"}) {
    const Model m = catalogue_model(name);
    const double s = 2048, h = static_cast<double>(m.hidden), l = static_cast<double>(m.layers);
    const double v = static_cast<double>(m.vocab);
    const double expected = 72 * 64 * s * l * h * h * (1 + s / (6 * h) + v / (12 * l * h));
    EXPECT_NEAR(model_flops(m, 64, 2048) / expected, 1, 1e-12) << name;
  }
}

// DeepSeek-V3's attention (arXiv:2412.19437, section 4.2): 128 heads of 128 + 64 columns, values of 128, latents of
// 1536 and 512. Of a layer with an MLP of 18432:
//   q 7168*1536 + 1536*128*192 = 48758784, kv 7168*576 + 512*128*256 = 20905984, out 128*128*7168 = 117440512, norms of
//   the latents 2048, of the layer 2*7168 = 14336; MLP 3*7168*18432 = 396361728: 583483392
TEST(Model, CountsLatentAttentionByHand) {
  Model m;
  m.layers = 1;
  m.hidden = 7168;
  m.heads = m.kv_heads = 128;
  m.head_dim = 192;
  m.mla = {1536, 512, 128, 64, 128};
  m.ffn_hidden = 18432;
  m.vocab = 1;
  m.activation = Activation::swiglu;
  m.norm = Norm::rmsnorm;
  m.positions = Positions::rotary;
  m.attention_bias = m.output_bias = m.mlp_bias = false;
  EXPECT_EQ(layer_parameters(m), 583'483'392);
  // Forward of one token after itself alone: twice the matrices, and 2 (192 + 128) per head; three times that with the
  // backward, and with the one word's logit.
  EXPECT_EQ(model_flops(m, 1, 1),
            3.0 * (2.0 * (48758784 + 20905984 + 117440512 + 396361728) + 2.0 * 128 * (192 + 128) + 2.0 * 7168));
}

TEST(Model, EveryCatalogueModelIsCompleteAndNamesItsSource) {
  for (const CatalogueItem& item : catalogue_items(kModelFolder)) {
    const JsonDocument document = JsonDocument::from_file(item.path);
    EXPECT_EQ(document.root().at("name"), item.name);
    EXPECT_FALSE(document.root().at("source").get<std::string>().empty()) << item.path;
    const Model m = load_model(item.path);
    EXPECT_EQ(m.name, item.name);
    EXPECT_TRUE(m.head_dim * m.heads == m.hidden || m.has_mla() || document.root().contains("head_dim")) << item.name;
    EXPECT_GT(total_parameters(m), 0);
  }
}

TEST(Model, NamesOfItsWords) {
  EXPECT_EQ(name(Activation::geglu), "geglu");
  EXPECT_EQ(name(Norm::rmsnorm), "rmsnorm");
  EXPECT_EQ(name(Positions::none), "none");
}

// linear: 16·3 + 3 = 51; a sample takes 2·48 FLOPs forward and as many for the weight's gradient: 192.
// mlp of 2, two hidden layers of 32, 3: (2 + 1)·32 + (32 + 1)·32 + (32 + 1)·3 = 96 + 1056 + 99 = 1251; products 64, of
// which the input has no gradient, 1024 and 96: 4·64 + 6·1120 = 6976.
TEST(Dense, CountsByHand) {
  Model linear;
  linear.architecture = Architecture::linear;
  linear.dense = {16, 3, Loss::squared_error};
  EXPECT_EQ(total_parameters(linear), 51);
  EXPECT_EQ(model_flops(linear, 10, 1), 1920.0);
  Model mlp;
  mlp.architecture = Architecture::mlp;
  mlp.dense = {2, 3, Loss::cross_entropy};
  mlp.layers = 2;
  mlp.hidden = 32;
  EXPECT_EQ(total_parameters(mlp), 1251);
  EXPECT_EQ(mlp.repeated_layers(), 1);
  EXPECT_EQ(model_flops(mlp, 10, 1), 69760.0);
}

}  // namespace
}  // namespace foretrain::workloads
