// What fixed.x leaves to Verilog: a product and a sum that no optimisation before synthesis cuts.
module hls_multiply #(parameter A = 1, parameter B = 1, parameter P = 1) (
  input signed [A-1:0] a,
  input signed [B-1:0] b,
  output signed [P-1:0] p
);
  assign p = a * b;
endmodule

module hls_add #(parameter A = 1, parameter B = 1, parameter P = 1) (
  input signed [A-1:0] a,
  input signed [B-1:0] b,
  output signed [P-1:0] p
);
  assign p = a + b;
endmodule
